"""Residual vector quantisation trained in the space of the item vectors [Ju et al., GRID, CIKM 2025, its R-VQ; van den Oord et al., 2017].

What is different about this tokenizer: the codebooks of RQ-VAE without its encoder and decoder. All levels learn at once, by gradient
(``update: gradient``) or as moving averages of the residuals that choose them (``update: ema``).

Glossary: x item vector; e_lk -> ``LearnedCodebooks.books``; r_l residual; sg -> ``detach``.

Where this deviates from GRID's R-VQ, and why: all levels at once rather than one after another, which needs no split of the steps; the
commitment term is left out of the loss, for in the input space there is nothing that could commit (its gradient goes nowhere); Adam instead
of SGD; the codes start at k-means centres of a few rounds, and dead ones are revived. Residuals are not scaled to length 1 unless asked
for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from recbench.data.training import TrainingData
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices
from recbench.models.registry import register
from recbench.models.tokenizers.tokenizer import (
    ItemTokenizer,
    LearnedTokenizerConfig,
    check_learning,
    item_vectors_of,
    revival,
    standardised,
)
from recbench.nn.codes.learned_codebooks import LearnedCodebooks, MovingAverages, train_codes
from recbench.nn.codes.quantization import relative_error
from recbench.nn.optimizers import uncompiled

UPDATES = ("gradient", "ema")


@dataclass
class RVQConfig(LearnedTokenizerConfig):
    """How the codes move."""

    name: str = "rvq"
    epochs: int = 60
    batch: int = 1024
    lr: float = 1e-3
    revive_every: int = 10
    update: str = "ema"


@register("rvq", RVQConfig)
class RVQ(ItemTokenizer):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"text_vectors"})

    def __init__(self, config: RVQConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_learning(config)
        check_choices(config, {"update": UPDATES})

    def assign(self, train: TrainingData) -> tuple[np.ndarray, list[int]]:
        config = self.config
        x = torch.from_numpy(standardised(item_vectors_of(self.vectors)))
        books = LearnedCodebooks(
            config.levels,
            config.codebook_size,
            x.shape[1],
            beta=0.0,
            normalize=config.normalize_residuals,
            uniform_last=config.uniform_last == "sinkhorn",
        )
        books.seed_on(x, self.seed)
        step = MovingAverages(books).step if config.update == "ema" else self._by_gradient(books)
        train_codes("rvq", x, config.epochs, config.batch, self.seed, step, revival(config, books, lambda: x))
        codes, vectors = books.assign(x)
        self.fit_figures["reconstruction_error"] = relative_error(x.numpy(), vectors.numpy())
        return codes, [config.codebook_size] * config.levels

    def _by_gradient(self, books: LearnedCodebooks) -> Callable[[Tensor], Tensor]:
        optimizer = uncompiled(torch.optim.Adam)(books.parameters(), lr=self.config.lr)

        def step(rows: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = books(rows).loss
            loss.backward()
            optimizer.step()
            return loss

        return step
