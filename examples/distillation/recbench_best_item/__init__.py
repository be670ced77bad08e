"""``distillation=best_item``: at every position the student learns to predict the item that the teacher ranks first.

Shapes: N real positions of a batch, V = n_items + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recbench.models import Batch, Objective, SequenceModel, TaughtConfig, UserError, register_distillation


@dataclass
class BestItemConfig(TaughtConfig):
    """``TaughtConfig`` brings the teacher's keys, as in ``distillation.teacher.model=sasrec``."""

    name: str = "best_item"
    weight: float = 0.5

    def check(self) -> None:
        """Raise UserError for values that make no sense."""
        super().check()
        if not self.weight > 0:
            raise UserError(f"distillation.weight must be positive, not {self.weight}")


@register_distillation("best_item", BestItemConfig)
class BestItem(Objective):
    """What is read of the teacher (once, and kept on disk) and the terms of the student's loss are apart."""

    def __init__(self, config: BestItemConfig, student: SequenceModel, teacher: SequenceModel) -> None:
        super().__init__()
        self.weight = config.weight

    def reading(self) -> dict[str, str]:
        """Readings that are equal share one store."""
        return {"kind": "best_item"}

    def read(self, teacher: SequenceModel, batch: Batch) -> dict[str, Tensor]:
        """best [N, 1] int64, of the frozen teacher."""
        scores = teacher.queries(teacher.hidden_states(batch)[-1][batch.mask]) @ teacher.item_vectors().T
        scores[:, 0] = -torch.inf  # the pad
        return {"best": scores.argmax(1, keepdim=True)}

    def terms(
        self, student: SequenceModel, states: list[Tensor], taught: dict[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Weighted scalar terms by name, beside the student's own loss."""
        queries = student.queries(states[-1][batch.mask])
        return {"best_item": self.weight * student.catalogue_loss(queries, taught["best"][:, 0].long())}
