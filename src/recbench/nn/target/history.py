"""Pooling a history for each candidate: weights of the events, and their weighted sum.

Shapes: B rows, C candidates of a row, L events, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: A weight that counts as none, and is finite, so that a row without events has no NaN.
NEVER = -1e9


def softmax_over_events(scores: Tensor, real: Tensor) -> Tensor:
    """scores [B, C, L], real [B, L] bool -> weights [B, C, L] that sum to 1 over the real events; all 0 where a row has none.

    >>> softmax_over_events(torch.zeros(1, 1, 3), torch.tensor([[True, True, False]])).tolist()
    [[[0.5, 0.5, 0.0]]]
    >>> softmax_over_events(torch.zeros(1, 1, 2), torch.tensor([[False, False]])).tolist()
    [[[0.0, 0.0]]]
    """
    real = real[:, None]
    return scores.masked_fill(~real, NEVER).softmax(-1) * real


def best_events(scores: Tensor, real: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k events of the largest scores: (weights [B, C, k] by softmax among them, places [B, C, k]); 0 where a row has fewer.

    Of equal scores the later event is taken, so that padding changes nothing.
    """
    k = min(k, scores.shape[-1])
    found = scores.masked_fill(~real[:, None], NEVER)
    # Sorted stably from the end of the history: among equals the most recent comes first, and pads come last.
    order = found.flip(-1).argsort(dim=-1, descending=True, stable=True)[..., :k]
    place = scores.shape[-1] - 1 - order
    there = real[:, None].expand_as(scores).gather(2, place)
    return found.gather(2, place).softmax(-1) * there, place


def distances(lengths: Tensor, width: int) -> Tensor:
    """[B, L] int64: how many steps an event lies before what comes next, 1 for the most recent; 0 at pads.

    >>> distances(torch.tensor([2, 3]), 3).tolist()
    [[2, 1, 0], [3, 2, 1]]
    """
    return (lengths[:, None] - torch.arange(width, device=lengths.device)).clamp_min(0)
