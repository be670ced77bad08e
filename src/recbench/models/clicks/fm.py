"""Factorisation machine: every pair of fields has a weight, the product of the vectors of the two values [ICDM 2010].

What is different about this model: a pair that training never showed still has a weight, because each of its values has a vector.

    logit = b + sum_f w_f(x_f) + sum_{f < g} v_f . v_g

Glossary (paper -> here): w_0 -> ``bias``; w_i -> ``weights``; v_i -> ``vectors``; lemma 3.1 -> ``nn.fields.embedding.pairwise_products``.

Deviations: fields, not features: a field of several values is the mean of their vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from recbench.data.clicks.rows import ClickBatch
from recbench.models.base import ModelContext
from recbench.models.clicks.click_model import ClickConfig, ClickModel
from recbench.models.registry import register
from recbench.nn.fields.embedding import pairwise_products


@dataclass
class FMConfig(ClickConfig):
    """embedding_size: of the vectors."""

    name: str = "fm"


@register("fm", FMConfig)
class FM(ClickModel):
    """See the head of this file."""

    def __init__(self, config: FMConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        self.weights, self.vectors = self.embedding(1), self.embedding(config.embedding_size)

    def click_logits(self, rows: ClickBatch) -> Tensor:
        fields = rows.categories, rows.numbers, rows.several
        return self.bias + self.weights(*fields).sum((1, 2)) + pairwise_products(self.vectors(*fields))
