"""Rates of clicks that are counted, not learned: the floors of every table of clicks.

What is different about this model: it reads no field and no history. ``by: nothing`` says the training rate for every row; ``item`` that of the
item; ``pair`` that of this user and this item, where they met before, and else that of the item. Counting alone is hard to beat where users come
back to the same items: a model below ``pair`` has learned less than a counter knows.

    rate(i) = (clicks(i) + s r) / (rows(i) + s);   rate(u, i) = (clicks(u, i) + s_p rate(i)) / (rows(u, i) + s_p)

Glossary: r -> the training rate; s -> ``smoothing``; s_p -> ``pair_smoothing``.

Deviations: none, there is no paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.data.clicks.rows import ClickBatch, ClickTraining
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.checks import check_choices
from recbench.models.closed_form import ClosedForm
from recbench.models.registry import register

BY = ("nothing", "item", "pair")


@dataclass
class ClickRateConfig(ModelConfig):
    """by: what is counted. smoothing: rows at the training rate that every item is given. pair_smoothing: rows at its item's rate, of every pair."""

    name: str = "click_rate"
    by: str = "nothing"
    smoothing: float = 10.0
    pair_smoothing: float = 1.0


@register("click_rate", ClickRateConfig)
class ClickRate(ClosedForm):
    """See the head of this file."""

    answers: ClassVar[frozenset[str]] = frozenset({"clicks"})
    ranks: ClassVar[bool] = False
    state_names: ClassVar[tuple[str, ...]] = ("item_rate", "pairs", "pair_rate")
    item_rate: Tensor
    pairs: Tensor
    pair_rate: Tensor

    def __init__(self, config: ClickRateConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_choices(config, {"by": BY})
        if not (config.smoothing > 0 and config.pair_smoothing > 0):
            raise UserError("model.smoothing and model.pair_smoothing must be positive")

    def fit_to(self, train: TrainingData) -> None:
        if not isinstance(train, ClickTraining):
            raise UserError("the model 'click_rate' counts impressions; use protocol=clicks")
        config, rows = self.config, train.rows
        item, user, label = (
            np.asarray(part) for part in (train.clicks.item[rows], train.clicks.user[rows], train.labels)
        )
        shown = np.bincount(item, minlength=self.n_items + 1)
        clicked = np.bincount(item, weights=label, minlength=self.n_items + 1)
        known = config.by != "nothing"
        rate = (clicked * known + config.smoothing * train.rate) / (shown * known + config.smoothing)
        pairs, of_pair = np.unique(user.astype(np.int64) * (self.n_items + 1) + item, return_inverse=True)
        if config.by != "pair":
            pairs, of_pair, label = pairs[:0], of_pair[:0], label[:0]
        shown = np.bincount(of_pair, minlength=len(pairs))
        clicked = np.bincount(of_pair, weights=label, minlength=len(pairs))
        of_item = rate[pairs % (self.n_items + 1)]
        self.set_state("item_rate", torch.from_numpy(rate))
        self.set_state("pairs", torch.from_numpy(pairs))
        self.set_state(
            "pair_rate", torch.from_numpy((clicked + config.pair_smoothing * of_item) / (shown + config.pair_smoothing))
        )

    def click_logits(self, rows: ClickBatch) -> Tensor:
        rate = self.item_rate[rows.item]
        if len(self.pairs):
            pair = rows.user * (self.n_items + 1) + rows.item
            at = torch.searchsorted(self.pairs, pair).clamp_max(len(self.pairs) - 1)
            rate = torch.where(self.pairs[at] == pair, self.pair_rate[at], rate)
        return torch.logit(rate)
