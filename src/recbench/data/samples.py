"""Histories cut out of training windows, for models that read a history as a whole and predict what follows its end.

Shapes: B windows of a batch, L their positions, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recbench.data.batches import Batch

#: Which histories a window gives for each of its targets: all that precedes it; every contiguous run that ends before it; one such run, drawn.
SAMPLES = ("prefix", "windows", "one_window")


@dataclass(frozen=True)
class Samples:
    """items [N, L] int64, right-padded with 0 · lengths, user, targets [N] int64."""

    items: Tensor
    lengths: Tensor
    user: Tensor
    targets: Tensor

    def groups(self, parts: int) -> list[Samples]:
        """The same samples by length in about ``parts`` groups of equal size, each only as wide as its longest: less is spent on pads."""
        order = self.lengths.argsort(stable=True)
        return [self._narrow(chosen) for chosen in order.chunk(max(1, min(parts, len(order))))]

    def _narrow(self, chosen: Tensor) -> Samples:
        lengths = self.lengths[chosen]
        return Samples(self.items[chosen, : int(lengths[-1])], lengths, self.user[chosen], self.targets[chosen])


def samples(batch: Batch, how: str) -> Samples:
    """The histories of a training batch in the way of ``SAMPLES``, in the order of the targets (and of the starts).

    ``one_window`` draws a start for each target, uniformly, with torch's generator.

    >>> batch = Batch(torch.tensor([[7, 8]]), torch.zeros(1, 2), torch.tensor([2]), torch.tensor([0]), targets=torch.tensor([[8, 9]]))
    >>> samples(batch, "windows").items.tolist(), samples(batch, "windows").targets.tolist()
    ([[7, 0], [7, 8], [8, 0]], [8, 9, 9])
    """
    assert batch.targets is not None
    row, last = batch.mask.nonzero(as_tuple=True)
    width = batch.items.shape[1]
    if how == "windows":
        position = torch.arange(width, device=row.device)
        which, start = (position <= last[:, None]).nonzero(as_tuple=True)
        row, last = row[which], last[which]
    elif how == "one_window":
        start = (torch.rand(len(last), device=row.device) * (last + 1)).long()
    else:
        start = torch.zeros_like(last)
    place = start[:, None] + torch.arange(width, device=row.device)
    items = torch.where(place <= last[:, None], batch.items[row[:, None], place.clamp(max=width - 1)], 0)
    return Samples(items, last - start + 1, batch.user[row], batch.targets[row, last])
