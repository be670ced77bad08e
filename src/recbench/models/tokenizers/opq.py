"""OPQ: many unordered codes an item, each of a part of its text vector of its own [Ge et al., CVPR 2013; for items RPG, KDD 2025].

What is different about this tokenizer: the codes are no levels of detail but stand side by side. The vectors are whitened along their principal
components, turned, and cut into as many pieces as there are codes; every piece has a codebook. The turn is learned with the codebooks, by
turns: R = U V^T of the singular vectors of X^T Q(X R), then one step of k-means in every piece [Ge et al., section 3.1].

Glossary (RPG -> here): m digits -> ``levels``; M codewords -> ``codebook_size``; PCA -> ``components``; OPQ rotation -> ``rounds``.

Deviations: written here, as faiss is a large dependency for one sort of code; squared distances where RPG's call asks for inner products,
which on whitened vectors differ by little. Where there are fewer components than codes, the pieces left over are 0 and have one code.

Shapes: N items, E width of the text vectors, D components (a multiple of M), M codes an item, K codes of a codebook.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from recbench.core.errors import UserError
from recbench.data.training import TrainingData
from recbench.models.base import ModelContext
from recbench.models.registry import register
from recbench.models.tokenizers.tokenizer import ItemTokenizer, TokenizerConfig, item_vectors_of
from recbench.nn.codes.quantization import kmeans_codebook, nearest_codes, relative_error

#: Steps of k-means before the first turn.
FIRST_STEPS = 10
#: Components whose deviation is below this share of the largest are noise, and would be blown up by whitening.
NOISE = 1e-4


@dataclass
class OPQConfig(TokenizerConfig):
    """levels: codes of an item, all of one kind. components: principal components that are kept. rounds: turns of the rotation."""

    name: str = "opq"
    levels: int = 32
    codebook_size: int = 256
    collisions: str = "bucket"
    components: int = 128
    rounds: int = 20


@register("opq", OPQConfig)
class OPQ(ItemTokenizer):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"text_vectors"})

    def __init__(self, config: OPQConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        if config.components < 1 or config.rounds < 0:
            raise UserError(
                f"model.components={config.components} must be positive and model.rounds={config.rounds} not negative"
            )

    def assign(self, train: TrainingData) -> tuple[np.ndarray, list[int]]:
        config = self.config
        white = whitened(item_vectors_of(self.vectors), config.components, config.levels)
        found = product_codes(white, config.levels, config.codebook_size, config.rounds, self.seed)
        self.fit_figures["reconstruction_error"] = relative_error(white, found.vectors)
        return found.codes, [config.codebook_size] * config.levels


def whitened(vectors: np.ndarray, components: int, pieces: int) -> np.ndarray:
    """[N, E] -> [N, D] float32: centred, along the first principal components, each of variance 1; padded with 0 to a multiple of ``pieces``."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    order = np.argsort(-values)[:components]
    deviation = np.sqrt(np.maximum(values[order], 0.0))
    real = deviation > max(NOISE * deviation[0], 1e-12)
    found = centred @ axes[:, order[real]] / deviation[real]
    return np.pad(found, ((0, 0), (0, -found.shape[1] % pieces or pieces * (not real.any())))).astype(np.float32)


class ProductCodes(NamedTuple):
    """codes [N, M] int64, and the vectors that they stand for [N, D], turned back."""

    codes: np.ndarray
    vectors: np.ndarray


def product_codes(vectors: np.ndarray, pieces: int, size: int, rounds: int, seed: int) -> ProductCodes:
    """Codebooks of all pieces of the turned vectors [N, D]. The error never grows from one round to the next but by rounding."""
    width = vectors.shape[1] // pieces
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(vectors.shape[1],) * 2))[0].astype(np.float32)
    parts = np.split(vectors @ turn, pieces, axis=1)
    books = [kmeans_codebook(part, size, seed + number, FIRST_STEPS) for number, part in enumerate(parts)]
    for _ in range(rounds):
        chosen = [nearest_codes(part, book) for part, book in zip(parts, books, strict=True)]
        books = [_centres(part, code, book) for part, code, book in zip(parts, chosen, books, strict=True)]
        stood_for = np.concatenate([book[code] for book, code in zip(books, chosen, strict=True)], axis=1)
        left, _, right = np.linalg.svd(vectors.T @ stood_for)
        turn = (left @ right).astype(np.float32)
        parts = np.split(vectors @ turn, pieces, axis=1)
    codes = np.stack([nearest_codes(part, book) for part, book in zip(parts, books, strict=True)], axis=1)
    found = np.concatenate([book[codes[:, number]] for number, book in enumerate(books)], axis=1)
    assert found.shape[1] == pieces * width
    return ProductCodes(codes, found @ turn.T)


def _centres(part: np.ndarray, code: np.ndarray, book: np.ndarray) -> np.ndarray:
    """[K, d]: the mean of the rows of each code; the old centre where a code has none."""
    count = np.bincount(code, minlength=len(book))
    total = np.stack([np.bincount(code, weights=column, minlength=len(book)) for column in part.T], axis=1)
    return np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], book).astype(np.float32)
