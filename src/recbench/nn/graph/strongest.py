"""Edges by the node that they leave, the strongest first: for "the k best of each node".

Shapes: E edges.
"""

from __future__ import annotations

import torch
from torch import Tensor


def strongest_first(head: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    """(order [E], place [E]): the edges by head and then by score, of equal ones the one that was given first; the place of each in its head, from 0.

    >>> strongest_first(torch.tensor([0, 0, 2, 2, 2]), torch.tensor([1.0, 3.0, 5.0, 4.0, 6.0]))
    (tensor([1, 0, 4, 2, 3]), tensor([0, 1, 0, 1, 2]))
    """
    by_score = score.argsort(descending=True, stable=True)
    order = by_score[head[by_score].argsort(stable=True)]
    ordered = head[order]
    return order, torch.arange(len(order), device=order.device) - torch.searchsorted(ordered, ordered)
