"""Histories as sets: each item once, and the order does not matter.

Shapes: B rows, L items, of which those count where a mask [B, L] is True.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Items [B, L], and the mask.
ItemSets = tuple[Tensor, Tensor]


def distinct(items: Tensor) -> ItemSets:
    """items [B, L] sorted within each row, and a mask [B, L] that is True at the first of each item."""
    items = items.sort(dim=1).values
    first = torch.ones_like(items, dtype=torch.bool)
    first[:, 1:] = items[:, 1:] != items[:, :-1]
    return items, first


def distinct_items(items: Tensor) -> ItemSets:
    """The same, and the mask is False at pads: it is True once for each item of a row."""
    items, first = distinct(items)
    return items, first & (items > 0)


def sets_by_length(items: Tensor) -> list[ItemSets]:
    """``distinct_items`` of items [B, L], padded on the right: the rows from short to long, in groups of lengths up to 1, 2, 4, 8 and so on.

    A group is as wide as its longest row. Users of two items and users of a thousand may share a step: padded together, each would cost a
    thousand. Less than half of a group are pads.
    """
    lengths, order = (items > 0).sum(1).sort(stable=True)
    _, counts = lengths.clamp(min=1).log2().ceil().unique_consecutive(return_counts=True)
    groups, widths = order.split(counts.tolist()), lengths[counts.cumsum(0) - 1].tolist()
    return [distinct_items(items[rows, :width]) for rows, width in zip(groups, widths, strict=True)]
