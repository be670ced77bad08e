"""Histories that an auxiliary compares: prefixes of training windows, drawn as the papers' batches are.

A published batch holds so many rows, each one prefix of some user's history, shuffled over all users. ``n_contrasts`` of them drawn at each
step, none twice, are such a batch, whatever ``training.batch_size`` is.

Shapes: C prefixes, N training targets of all windows, numbered as in ``same_target.py``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recbench.data.batches import Batch, WindowDataset, gather
from recbench.objectives.contrastive.groups import groups_of_like_length


class Prefixes:
    """The training targets by number, and the history before each: its window up to there."""

    def __init__(self, dataset: WindowDataset) -> None:
        self.data, self.windows = dataset.data, dataset.windows
        self.first = np.cumsum(self.windows.length) - self.windows.length

    def some(self, count: int) -> np.ndarray:
        """``count`` different numbers, or all of them where there are no more; every set as likely. By torch's own generator."""
        total = self.windows.n_targets
        if count >= total:
            return torch.randperm(total).numpy()
        drawn = np.unique(torch.randint(total, (count,)).numpy())
        while len(drawn) < count:  # few are met twice
            more = torch.randint(total, (count - len(drawn),)).numpy()
            drawn = np.unique(np.concatenate([drawn, more]))
        return drawn

    def histories(self, numbers: np.ndarray) -> Batch:
        """The histories before the targets of these numbers [C], each from the beginning of its window; with targets, as a training batch."""
        window, length = self._place_of(numbers)
        return gather(self.data, self.windows.user[window], self.windows.start[window], length, with_targets=True)

    def lengths(self, numbers: np.ndarray) -> np.ndarray:
        """[C]: how many events stand before the targets of these numbers, in their windows."""
        return self._place_of(numbers)[1]

    def grouped(self, numbers: np.ndarray, device: torch.device | str) -> tuple[list[Batch], Tensor]:
        """(the histories in groups of like length, where each of the numbers [C] stands among the rows of all groups)."""
        groups = groups_of_like_length(self.lengths(numbers))
        place = torch.from_numpy(np.argsort(np.concatenate(groups))).to(device)
        return [self.histories(numbers[rows]).to(device) for rows in groups], place

    def _place_of(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        window = np.searchsorted(self.first, numbers, side="right") - 1
        return window, numbers - self.first[window] + 1
