"""Access to a frozen teacher: asked once for all training windows (``offline.py``), or here at every step.

Either way the student's training draws the same random numbers: a teacher in evaluation mode draws none.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from recbench.core.run_folder import RunFolder
from recbench.data.batches import Batch, WindowDataset
from recbench.models.base import Recommender
from recbench.objectives.distillation.base import Objective, build_objective
from recbench.objectives.distillation.offline import StoredLessons, stored_lessons, too_large

logger = logging.getLogger(__name__)


class Lessons(Protocol):
    """What an objective reads of its teacher, for any training batch."""

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """[N, ...] each, on the batch's device, one row a real position."""

    def to(self, device: torch.device) -> None:
        """Called once, before the first batch."""


class OnlineLessons:
    """Asks the teacher at every step. It is put into evaluation mode and frozen."""

    def __init__(self, objective: Objective, teacher: Recommender) -> None:
        self.objective, self.teacher = objective, teacher.eval().requires_grad_(False)

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            return self.objective.read(self.teacher, batch)

    def to(self, device: torch.device) -> None:
        self.teacher.to(device)


@dataclass
class Teaching:
    """An objective with the teacher it reads and the folder of the teacher's run; both None where it needs none."""

    objective: Objective
    teacher: Recommender | None = None
    folder: RunFolder | None = None
    mode: str = "offline"
    store: str = "float32"
    #: What it cost, for the figures of the run.
    figures: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Any, student: Recommender, teacher: Recommender | None, folder: RunFolder | None) -> Teaching:
        """That of a config other than ``none``. Raises UserError where student and teacher do not fit it."""
        access = {key: getattr(config, key) for key in ("mode", "store") if teacher is not None}
        return cls(build_objective(config, student, teacher), teacher, folder, **access)

    def lessons(self, dataset: WindowDataset, max_length: int, device: torch.device) -> Lessons | None:
        """Access to the teacher for batches of these windows; None where the objective needs none. May take as long as an epoch."""
        if self.teacher is None:
            return None
        online = OnlineLessons(self.objective, self.teacher)
        if self.mode == "online":
            return online
        size = too_large(self.objective, dataset.windows, self.store)
        if size:
            logger.info(
                "what the teacher says of %s training events would take %.1f GB: it is asked at every step instead",
                f"{dataset.windows.n_targets:,}",
                size / 1e9,
            )
            return online
        assert self.folder is not None
        return self._stored(online, dataset, max_length, device)

    def _stored(
        self, online: OnlineLessons, dataset: WindowDataset, max_length: int, device: torch.device
    ) -> StoredLessons:
        assert self.folder is not None
        found, seconds = stored_lessons(
            self.objective.reading(), online, dataset, max_length, self.store, self.folder, device
        )
        self.figures = {"cost/taught_seconds": seconds, "cost/taught_bytes": float(found.n_bytes)}
        return found
