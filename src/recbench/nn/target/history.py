"""Pooling a history for each candidate: weights of the events, and their weighted sum.

Shapes: B rows, C candidates of a row, L events, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recbench.data.batches import Batch

#: A weight that counts as none, and is finite, so that a row without events has no NaN.
NEVER = -1e9
#: Histories of at most so many events are read together, then those of at most twice as many, and so on.
SHORTEST_GROUP = 8


def by_length(read: Callable[[Batch, Tensor], Tensor], batch: Batch, items: Tensor) -> Tensor:
    """``read(batch, items)``, in groups of histories of similar length, so that short ones are not padded to the longest of all.

    read: gives a tensor with a row for each row of its batch, that does not depend on the other rows. items [B, ...].
    """
    group = (batch.lengths.clamp_min(1) - 1) // SHORTEST_GROUP
    group = torch.where(group > 0, group.float().log2().floor() + 1, 0.0)
    order = group.argsort(stable=True)
    sizes = group.long().bincount()
    chosen = [rows for rows in order.split(sizes.tolist()) if len(rows)]
    if len(chosen) < 2:
        return read(batch, items)
    parts = [read(_rows_of(batch, rows), items[rows]) for rows in chosen]
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return torch.cat(parts).index_select(0, back)


def _rows_of(batch: Batch, rows: Tensor) -> Batch:
    """Histories [n, longest of them], without anything that is there for training alone."""
    lengths = batch.lengths[rows]
    width = int(lengths.max())
    parts: dict[str, Any] = {
        name: None if (part := getattr(batch, name)) is None else part[rows, :width]
        for name in ("items", "timestamps", "behaviours")
    }
    return replace(batch, **parts, lengths=lengths, user=batch.user[rows], targets=None, windows=None)


def softmax_over_events(scores: Tensor, real: Tensor) -> Tensor:
    """scores [B, C, L], real [B, L] bool -> weights [B, C, L] that sum to 1 over the real events; all 0 where a row has none.

    >>> softmax_over_events(torch.zeros(1, 1, 3), torch.tensor([[True, True, False]])).tolist()
    [[[0.5, 0.5, 0.0]]]
    >>> softmax_over_events(torch.zeros(1, 1, 2), torch.tensor([[False, False]])).tolist()
    [[[0.0, 0.0]]]
    """
    real = real[:, None]
    return scores.masked_fill(~real, NEVER).softmax(-1) * real


def best_events(scores: Tensor, real: Tensor, k: int) -> Tensor:
    """Weights [B, C, L] by softmax among the k events of the largest scores [B, C, L]; 0 for all others, and for pads.

    Of equal scores the later event is taken, so that padding changes nothing.

    >>> best_events(torch.zeros(1, 1, 4), torch.tensor([[True, True, True, False]]), 2).tolist()
    [[[0.0, 0.5, 0.5, 0.0]]]
    """
    if k >= scores.shape[-1]:
        return softmax_over_events(scores, real)
    with torch.no_grad():
        found = scores.masked_fill(~real[:, None], NEVER)
        least = found.topk(k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
        kept, last = found > least, found == least
        room = k - kept.sum(-1, keepdim=True)
        if bool((last.sum(-1, keepdim=True) > room).any()):
            last &= last.flip(-1).cumsum(-1).flip(-1) <= room
        kept = (kept | last) & real[:, None]
    return scores.masked_fill(~kept, NEVER).softmax(-1) * kept


def distances(lengths: Tensor, width: int) -> Tensor:
    """[B, L] int64: how many steps an event lies before what comes next, 1 for the most recent; 0 at pads.

    >>> distances(torch.tensor([2, 3]), 3).tolist()
    [[2, 1, 0], [3, 2, 1]]
    """
    return (lengths[:, None] - torch.arange(width, device=lengths.device)).clamp_min(0)
