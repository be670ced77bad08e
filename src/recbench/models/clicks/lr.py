"""Logistic regression over the fields of a row: a weight for each value, and nothing that joins two.

What is different about this model: no vectors at all. What it misses against ``fm`` is what pairs of fields say.

    logit = b + sum_f w_f(x_f)

Deviations: none; the weights have no penalty unless ``penalty`` is set.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from recbench.data.clicks.rows import ClickBatch
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.clicks.click_model import ClickModel
from recbench.models.registry import register


@dataclass
class LRConfig(ModelConfig):
    """penalty: of the weights, see ``models.clicks.click_model``."""

    name: str = "lr"
    penalty: float = 0.0


@register("lr", LRConfig)
class LR(ClickModel):
    """See the head of this file."""

    def __init__(self, config: LRConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        self.weights = self.embedding(1)

    def click_logits(self, rows: ClickBatch) -> Tensor:
        return self.bias + self.weights(rows.categories, rows.numbers, rows.several).sum((1, 2))
