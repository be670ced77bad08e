"""Item texts as numbers: words by hash, tokens of a backbone's tokenizer, and fixed vectors out of TF-IDF or a frozen encoder.

Shapes: V = n_items + 1 (row 0 is the pad, without text), T words or tokens kept of a text, W width of a text vector.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbench.core.errors import UserError, first_line
from recbench.nn.language.backbone import Backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.pretrained import read_tokenizer
from recbench.nn.text.length_buckets import by_length, tokens_at_once

#: Up to so many cells a matrix is decomposed as a dense one, which is exact; above, the leading vectors alone are sought.
DENSE_CELLS = 4_000_000


def words_of(text: str) -> list[str]:
    """Runs of letters, digits and underscores, in lower case."""
    return re.findall(r"\w+", text.lower())


def hashed_words(texts: Sequence[str], n_buckets: int, n_words: int) -> Tensor:
    """[V, T] int32: the first ``n_words`` words of each text as buckets 1..n_buckets, 0 where there are fewer. The same on any machine."""
    rows = [[zlib.crc32(word.encode()) % n_buckets + 1 for word in words_of(text)[:n_words]] for text in texts]
    return _padded(rows, n_words)


def tokens_of(texts: Sequence[str], backbone: str, n_tokens: int) -> Tensor:
    """[V, T] int32: the first tokens of each text, each id plus 1, 0 where there are fewer. Raises UserError without a tokenizer."""
    try:
        tokenizer = read_tokenizer(backbone)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"item texts need the tokenizer of '{backbone}': put its files beside config.json, or set model.backbone=tiny ({first_line(error)})"
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UserError(
            f"item texts need the tokenizer of '{backbone}': put its files beside config.json, or set model.backbone=tiny"
        )
    rows = [
        [i + 1 for i in tokenizer(text, add_special_tokens=False)["input_ids"][:n_tokens]] if text else []
        for text in texts
    ]
    return _padded(rows, n_tokens)


def _padded(rows: list[list[int]], width: int) -> Tensor:
    table = torch.zeros(len(rows), width, dtype=torch.int32)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = torch.tensor(values, dtype=torch.int32)
    return table


def tfidf_vectors(texts: Sequence[str], seen: np.ndarray, width: int) -> Tensor:
    """[V, W] float32 unit vectors (0 without known words): TF-IDF of words, on its leading right singular vectors.

    seen [V] bool: items of the training events. Vocabulary, document frequencies and singular vectors come from their texts alone; the
    texts of others are only looked up. tf is 1 + log count, idf log((1 + n) / (1 + df)) + 1.
    """
    from scipy import sparse

    vocabulary: dict[str, int] = {}
    for text, known in zip(texts, seen, strict=True):
        if known:
            for word in words_of(text):
                vocabulary.setdefault(word, len(vocabulary))
    places = [
        (row, vocabulary[word]) for row, text in enumerate(texts) for word in words_of(text) if word in vocabulary
    ]
    vectors = np.zeros((len(texts), width), dtype=np.float32)
    if not places:
        return torch.from_numpy(vectors)
    row, column = np.array(places).T
    counts = sparse.csr_array((np.ones(len(row)), (row, column)), shape=(len(texts), len(vocabulary)))
    counts.sum_duplicates()
    df = np.bincount(counts[seen].indices, minlength=len(vocabulary))
    counts.data = 1.0 + np.log(counts.data)
    weighted: Any = counts.multiply(np.log((1 + seen.sum()) / (1 + df)) + 1.0).tocsr()
    weighted = (
        _unit_rows(weighted.toarray()) if weighted.shape[0] * weighted.shape[1] <= DENSE_CELLS else _unit(weighted)
    )
    leading = _leading(weighted[seen], width)
    vectors[:, : leading.shape[1]] = weighted @ leading
    return torch.from_numpy(_unit_rows(vectors).astype(np.float32))


def _leading(matrix: Any, width: int) -> np.ndarray:
    """Right singular vectors with the largest singular values, as columns; as many as there are, up to ``width``."""
    if isinstance(matrix, np.ndarray):
        return np.linalg.svd(matrix, full_matrices=False)[2][:width].T
    from scipy.sparse.linalg import svds

    size = min(matrix.shape)
    found = svds(matrix, k=min(width, size - 1), v0=np.ones(size), return_singular_vectors="vh")[2]
    return found[::-1].T


def _unit(matrix: Any) -> Any:
    """A sparse matrix with rows of length 1."""
    from scipy import sparse

    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    return sparse.csr_array(sparse.diags_array(1.0 / np.maximum(length, 1e-12)) @ matrix)


def _unit_rows(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)


@torch.no_grad()
def encoded_texts(texts: Sequence[str], config: BackboneConfig, n_tokens: int) -> Tensor:
    """[V, H] float32: the mean state of each text's tokens after the last layer of a frozen backbone, 0 without text.

    Raises UserError if the backbone or its tokenizer cannot be found or fetched.
    """
    tokens = tokens_of(texts, config.backbone, n_tokens)
    backbone = Backbone(replace(config, prompt="none"), n_tokens, keep_tokens=True).eval()
    table = backbone.model.get_input_embeddings()
    rows, of_text = tokens.long().unique(dim=0, return_inverse=True)
    length = (rows > 0).sum(1)
    found = torch.zeros(len(rows), backbone.width)
    for chosen in by_length(length, tokens_at_once(rows.device)):
        ids = rows[chosen, : int(length[chosen].max())]
        if ids.numel():
            real = ids > 0
            states = backbone.read(table((ids - 1).clamp_min(0)).float()) * real[..., None]
            found[chosen] = states.sum(1) / real.sum(1, keepdim=True).clamp_min(1)
    return found[of_text]
