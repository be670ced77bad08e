"""Training histories that end before the same item, found without a search: sorted once, drawn by number.

Only training windows are known here, so no history reaches into validation or test.

Shapes: W windows, N training targets of all windows (n-th target: position n - first[w] of window w), B rows of a batch, V = n_items + 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recbench.data.batches import WindowDataset
from recbench.objectives.contrastive.prefixes import Prefixes


class SameTarget(Prefixes):
    """Draws, for training targets, other histories whose next item is the same."""

    def __init__(self, dataset: WindowDataset) -> None:
        super().__init__(dataset)
        windows = self.windows
        place = np.arange(windows.n_targets) - np.repeat(self.first, windows.length)
        self.target = np.asarray(self.data.items[np.repeat(windows.start, windows.length) + place + 1])
        #: [N] numbers of the targets, those of one item side by side; of item i they begin at bound[i]. rank: where each stands there.
        self.order = np.argsort(self.target, kind="stable")
        self.rank = np.empty_like(self.order)
        self.rank[self.order] = np.arange(len(self.order))
        self.bound = np.concatenate([[0], np.cumsum(np.bincount(self.target, minlength=self.data.n_items + 1))])

    def draw(self, chosen: Tensor) -> np.ndarray:
        """For the last target of each of the windows [B] (on the host) the number of another one; see ``partners``."""
        return self.partners(self.last_of(chosen))

    def last_of(self, chosen: Tensor) -> np.ndarray:
        """The number of the last target of each of the windows [B] (on the host)."""
        return self.first[chosen.numpy()] + self.windows.length[chosen.numpy()] - 1

    def partners(self, own: np.ndarray) -> np.ndarray:
        """For each of the targets of these numbers [B] that of another which is the same item, every one as likely.

        A row whose target has no other occurrence in training gets its own. Where an item occurs twice in one window, the earlier target
        of the same user may come.
        """
        begin = self.bound[self.target[own]]
        count = self.bound[self.target[own] + 1] - begin
        u = torch.rand(len(own), dtype=torch.float64).numpy()
        # Steps from the own place to another one, around the circle of those with this target; 0 where there is no other.
        steps = np.minimum(1 + (u * (count - 1)).astype(np.int64), count - 1)
        return self.order[begin + (self.rank[own] - begin + steps) % count]
