"""Residual k-means: item codes by clustering the item vectors, then what is left of them, and so on [Luo et al., QARM, 2024; Ju et al., GRID,
CIKM 2025].

What is different about this tokenizer: nothing is trained by gradient, and there is no encoder. Each level is k-means++ and Lloyd's
algorithm on all items, or mini-batches of them.

Glossary: x item vector (``ModelContext.text_vectors``); e_lk centre k of level l; c_l code; r_l residual (``recbench.nn.codes.quantization``).

Where this deviates from GRID's RK-Means, and why: Lloyd's algorithm to convergence where GRID takes 10 mini-batch steps a level, because a
catalogue fits into memory and seconds suffice; the residuals are not scaled to length 1 unless ``normalize_residuals`` says so, so that the
codes reconstruct the vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from recbench.core.errors import UserError
from recbench.data.training import TrainingData
from recbench.models.base import ModelContext
from recbench.models.registry import register
from recbench.models.tokenizers.tokenizer import ItemTokenizer, TokenizerConfig, check_uniform, item_vectors_of
from recbench.nn.codes.quantization import kmeans_codebook, quantize_level_by_level, relative_error


@dataclass
class RQKMeansConfig(TokenizerConfig):
    """Rounds of each level, rows of a mini-batch (0: all rows at once), and what is done to the residuals."""

    name: str = "rq_kmeans"
    rounds: int = 100
    batch: int = 0
    normalize_residuals: bool = False
    uniform_last: str = "none"


@register("rq_kmeans", RQKMeansConfig)
class RQKMeans(ItemTokenizer):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"text_vectors"})

    def __init__(self, config: RQKMeansConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_uniform(config.uniform_last)
        if config.rounds < 1:
            raise UserError(f"model.rounds must be at least 1, not {config.rounds}")
        if config.batch < 0:
            raise UserError(f"model.batch={config.batch} must not be negative (0: all items at once)")

    def assign(self, train: TrainingData) -> tuple[np.ndarray, list[int]]:
        config, vectors = self.config, item_vectors_of(self.vectors)
        fit = partial(kmeans_codebook, seed=self.seed, rounds=config.rounds, batch=config.batch)
        found = quantize_level_by_level(
            vectors, config.levels, config.codebook_size, fit, config.normalize_residuals, config.uniform_last
        )
        self.fit_figures["reconstruction_error"] = relative_error(vectors, found.vectors)
        return found.codes, [config.codebook_size] * config.levels
