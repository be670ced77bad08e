"""What models of clicks share: a row of fields goes in, a logit comes out, and each row is learned for itself by binary cross-entropy.

    penalty   of the tables of fields: ``penalty`` / 2 times the sum of squares, added to the mean loss of every step, as FuxiCTR has it: the
              gradient is dense, and the strength does not depend on the batch

Shapes: B rows, E fields, D embedding_size, T labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.clicks.rows import ClickBatch, ClickTraining
from recbench.models.base import ModelConfig, ModelContext, Recommender
from recbench.models.checks import check_counts
from recbench.nn.fields.embedding import FieldEmbedding


@dataclass
class ClickConfig(ModelConfig):
    """embedding_size: of every field. penalty: see the head of this file."""

    embedding_size: int = 10
    penalty: float = 0.0


@dataclass
class DeepClickConfig(ClickConfig):
    """With a network over the fields: its layers, dropout, and whether each layer is normalised over the batch."""

    layers: list[int] = field(default_factory=lambda: [400, 400, 400])
    dropout: float = 0.2
    batch_norm: bool = True


class ClickModel(Recommender):
    """See the head of this file. A subclass gives ``click_logits``."""

    answers: ClassVar[frozenset[str]] = frozenset({"clicks"})
    ranks: ClassVar[bool] = False
    is_causal: ClassVar[bool] = False
    bias: nn.Parameter

    def __init__(self, config: Any, context: ModelContext) -> None:
        super().__init__(config, context)
        if context.fields is None:
            raise UserError(f"the model '{config.name}' reads the fields of impressions; use protocol=clicks")
        if hasattr(config, "embedding_size"):  # lr has no vectors
            check_counts(config, "embedding_size")
        if config.penalty < 0:
            raise UserError(f"model.penalty must not be negative, not {config.penalty:g}")
        self.fields = context.fields
        # Where all else is zero the model says the training rate.
        self.bias = nn.Parameter(torch.tensor(log_odds(context)))

    def embedding(self, width: int) -> FieldEmbedding:
        """A new table of the fields."""
        fields = self.fields
        return FieldEmbedding(
            list(fields.categories.values()), len(fields.numbers), list(fields.several.values()), width
        )

    def click_loss(self, rows: ClickBatch) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.click_logits(rows), rows.label[:, 0]) + self.penalties()

    def training_loss(self, batch: Any) -> Tensor:
        return self.click_loss(batch)

    def penalties(self) -> Tensor:
        """The penalty of the tables of fields."""
        weight = self.config.penalty
        if not weight:
            return self.bias.new_zeros(())
        tables = [part.penalty() for part in self.modules() if isinstance(part, FieldEmbedding)]
        return 0.5 * weight * torch.stack(tables).sum()


def log_odds(context: ModelContext) -> float:
    """Of a click in training; 0 for a stored run, whose own value is read."""
    if not isinstance(context.train, ClickTraining):
        return 0.0
    rate = context.train.rate
    return math.log(rate / (1 - rate))
