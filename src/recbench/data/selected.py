"""Which training events are trained on as targets, and how much each counts: what a selection run found, at their places in the flat arrays.

An event that is not kept stays in the history that later targets see.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbench.core.errors import UserError
from recbench.data.batches import Windows
from recbench.data.cases import flat_ranges
from recbench.data.training import TrainingData


@dataclass(frozen=True)
class Selected:
    """weight [N] float32, one for each interaction of the data: 0 where an event is no target of training. The mean over the kept ones is 1."""

    weight: np.ndarray

    @classmethod
    def of(cls, keep: np.ndarray, weight: np.ndarray, train: TrainingData) -> Selected | None:
        """From a selection's arrays over the training events, user after user [M]; None where all are kept with one weight, so that nothing
        changes. A user's first event is no target and counts for nothing. Raises UserError if the arrays are of other events, or nothing is left.
        """
        user, place = flat_ranges(train.start, train.end)
        if len(keep) != len(place) or len(weight) != len(place):
            raise UserError(
                f"the selection knows {len(keep)} training events, these data have {len(place)}: make it anew"
            )
        target = np.concatenate([[False], user[1:] == user[:-1]])
        kept = keep.astype(bool) & (weight > 0) & target
        if not kept.any():
            raise UserError("the selection keeps no target of training; raise training.selection_keys.share")
        values = weight[kept].astype(np.float64)
        if kept.sum() == target.sum() and np.ptp(values) == 0:
            return None
        full = np.zeros(len(train.data.items), dtype=np.float32)
        full[place[kept]] = 1.0 if np.ptp(values) == 0 else values / values.mean()
        return cls(full)

    def left(self, windows: Windows) -> Windows:
        """The windows that still have a target, with how many and how much they hold."""
        _, place = flat_ranges(windows.start + 1, windows.start + windows.length + 1)
        row = np.repeat(np.arange(len(windows.length)), windows.length)
        weight = self.weight[place]
        count = np.bincount(row, weights=weight > 0, minlength=len(windows.length)).astype(np.int64)
        mass = np.bincount(row, weights=weight, minlength=len(windows.length))
        kept = count > 0
        return Windows(windows.user[kept], windows.start[kept], windows.length[kept], count[kept], mass[kept])
