"""Recent popularity: training events count less the longer ago they are [DecayPop of Ji, Sun, Zhang and Li, SIGIR 2020].

What differs from the paper: age is measured from the last training event of the whole data set, not from the moment of each
question, so there is one ranking for all users, as a site would serve it on the day that the training data ends. That suits a
temporal split. Under leave-one-out, where histories end years apart, it stays below plain popularity, which sees each user's future;
measuring from the end of each history did so too (Beauty, test NDCG@10: popularity .0053, this .0030, by history .0046 at best).
An exponential rather than a window leaves hardly any ties and no period to be empty.

Glossary: t_e, time of event e; T, time of the last training event; h -> ``half_life_days``;
score of item i = sum over its events of 2^(-(T - t_e) / h) -> ``weights``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.closed_form import ClosedForm
from recbench.models.registry import register

SECONDS_PER_DAY = 86_400


@dataclass
class RecentPopularityConfig(ModelConfig):
    """How fast the past fades."""

    name: str = "recent_popularity"
    half_life_days: float = 30.0


@register("recent_popularity", RecentPopularityConfig)
class RecentPopularity(ClosedForm):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"timestamps"})
    state_names: ClassVar[tuple[str, ...]] = ("weights",)
    weights: Tensor  # [n_items + 1] float32

    def __init__(self, config: RecentPopularityConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        if not config.half_life_days > 0:
            raise UserError(f"model.half_life_days={config.half_life_days:g} must be positive")

    def fit_to(self, train: TrainingData) -> None:
        _, item, timestamp = train.flat()
        age = (timestamp.max(initial=0) - timestamp) / SECONDS_PER_DAY
        fading = np.exp2(-age / self.config.half_life_days)
        weights = np.bincount(item, weights=fading, minlength=train.n_items + 1)
        self.set_state("weights", torch.from_numpy(weights).float())

    def score(self, batch: Batch) -> Tensor:
        return self.weights.repeat(batch.items.shape[0], 1)
