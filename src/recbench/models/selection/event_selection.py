"""What every selection of training events gives: which events are targets, with what weight. ``training.selection=NAME`` stands on such a run.

Shapes: M training events, user after user and by time within a user, as ``TrainingData.flat`` has them. A user's first event is no target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.closed_form import ClosedForm

if TYPE_CHECKING:
    from recbench.data.batches import Batch


@dataclass
class ShareConfig(ModelConfig):
    """Of a selection that keeps a share of the targets."""

    share: float = 0.3

    def check(self) -> None:
        """Raise UserError for a share of nothing or of more than all."""
        if not 0 < self.share <= 1:
            raise UserError(f"training.selection_keys.share={self.share:g} must lie above 0 and be at most 1")


class EventSelection(ClosedForm):
    """A subclass gives ``choose``.

    state buffers: ``keep`` [M] bool; ``weight`` [M] float32. Everything is computed from training events alone.
    """

    ranks: ClassVar[bool] = False
    uses_seed: ClassVar[bool] = True
    state_names: ClassVar[tuple[str, ...]] = ("keep", "weight")
    keep: Tensor
    weight: Tensor

    def __init__(self, config: Any, context: ModelContext) -> None:
        super().__init__(config, context)
        self.seed, self.parts = context.seed, context.dependencies
        #: Figures on how the choice was made; part of the report.
        self.made_figures: dict[str, float] = {}

    def choose(self, train: TrainingData) -> tuple[np.ndarray, np.ndarray]:
        """(keep [M] bool, weight [M])."""
        raise NotImplementedError

    def fit_to(self, train: TrainingData) -> None:
        keep, weight = self.choose(train)
        self.parts = {}
        self.set_state("keep", torch.from_numpy(np.ascontiguousarray(keep, dtype=bool)))
        self.set_state("weight", torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float32)))

    def report(self, train: TrainingData) -> dict[str, float]:
        """What was kept, by names as in ``selection/share_kept``; of the fifth of the targets with the rarest items, and with the most popular."""
        user, item, _ = train.flat()
        target = is_target(user)
        keep = self.keep.cpu().numpy() & target
        counts = train.item_counts()[item]
        low, high = np.quantile(counts[target], [0.2, 0.8])
        found = {
            "targets": float(target.sum()),
            "targets_kept": float(keep.sum()),
            "share_kept": float(keep.sum() / target.sum()),
            "share_kept_of_rare_items": float(keep[target & (counts <= low)].mean()),
            "share_kept_of_popular_items": float(keep[target & (counts >= high)].mean()),
            "users_kept": float(len(np.unique(user[keep]))),
            "largest_weight": float(self.weight[self.keep].max()) if keep.any() else 0.0,
            **self.made_figures,
        }
        return {f"selection/{name}": value for name, value in found.items()}

    def recommend(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} selects training events and recommends none")


def is_target(user: np.ndarray) -> np.ndarray:
    """[M] bool: every training event but a user's first. user [M], ascending."""
    return np.concatenate([[False], user[1:] == user[:-1]])


def budget_of(share: float, candidates: int) -> int:
    """How many targets a share of them is: at least one."""
    return max(1, round(share * candidates))
