"""What every distillation objective is: what it reads of a frozen teacher, and the terms it adds to the student's loss.

The two are apart because what is read depends on the teacher alone. So it can be computed once for all training windows and kept
(``offline.py``), or computed anew at every step (``teacher.py``), with the same result.

Shapes: N real positions of a batch, in the order of ``batch.mask``'s True entries; V = n_items + 1.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.models.base import Recommender
from recbench.models.sequence_model import SequenceModel
from recbench.objectives.distillation.configs import DistillationConfig, add_config


class Objective(nn.Module):
    """Terms beside a student's own loss. Its parameters (heads, projections) are trained with the student and not stored with it."""

    def reading(self) -> dict[str, Any]:
        """In plain values, all that ``read`` depends on besides teacher and batch: equal readings share one store."""
        return {}

    def read(self, teacher: Recommender, batch: Batch) -> dict[str, Tensor]:
        """What is needed of the frozen teacher, [N, ...] each. Called without gradients; uses nothing that is learned here."""
        return {}

    def terms(
        self, student: SequenceModel, states: list[Tensor], taught: dict[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Weighted scalar terms by name. states: the student's, [B, L, D] each; taught: what ``read`` gave for this batch."""
        raise NotImplementedError


_objectives: dict[str, Callable[..., Objective]] = {}


def register(name: str, config: type[DistillationConfig] | None = None) -> Callable[[type[Objective]], type[Objective]]:
    """Class decorator: the objective of that name, built as ``objective(config, student, teacher)``.

    config: of an objective that another package adds. Ours stand in ``configs.py`` and in the module of their name. Raises ValueError if the
    name belongs to another objective.
    """

    def decorate(objective: type[Objective]) -> type[Objective]:
        if config is not None:
            add_config(name, config)
        _objectives[name] = objective
        return objective

    return decorate


def build_objective(config: DistillationConfig, student: Recommender, teacher: Recommender | None) -> Objective:
    """The objective of a config other than ``none``. Raises UserError where student and teacher do not fit it."""
    config.check()
    config.check_models(student.config, None if teacher is None else teacher.config)
    if config.name not in _objectives:
        importlib.import_module(f"{__package__}.{config.name}")
    return _objectives[config.name](config, student, teacher)
