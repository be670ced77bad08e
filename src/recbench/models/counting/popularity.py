"""Popularity: every user gets the items that occur most often in training. The bar that anything personal must clear.

Glossary: n_i, training events of item i -> ``counts``; score of item i = n_i for every history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from recbench.data.batches import Batch
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig
from recbench.models.closed_form import ClosedForm
from recbench.models.registry import register


@dataclass
class PopularityConfig(ModelConfig):
    """Nothing to set."""

    name: str = "popularity"


@register("popularity", PopularityConfig)
class Popularity(ClosedForm):
    """See the head of this file."""

    state_names: ClassVar[tuple[str, ...]] = ("counts",)
    counts: Tensor  # [n_items + 1]

    def fit_to(self, train: TrainingData) -> None:
        self.set_state("counts", torch.from_numpy(train.item_counts()).float())

    def score(self, batch: Batch) -> Tensor:
        return self.counts.repeat(batch.items.shape[0], 1)
