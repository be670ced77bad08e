"""The loss of pairs over whole tables of vectors (BPR), and its penalty, each as one step forward and one back.

The plain way gathers rows, multiplies them in batches of one and scatters three gradients. Here the gradients are written down, so that each table
is filled once; on Gowalla, at 32,768 events a step, that and layers summed in place (``sparse_graph``) spare a quarter of a LightGCN step.

Shapes: B events, n negatives of each, R rows of a table, D width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor


def pair_loss(users: Tensor, items: Tensor, user: Tensor, item: Tensor, negative: Tensor) -> Tensor:
    """Mean of softplus(s_uj - s_ui) over the events and their negatives, with a gradient by both tables [Rendle et al., UAI 2009, eq. 5].

    users [U, D] · items [V, D] · user, item [B] rows of them · negative [B, n] rows of ``items``, n at least 1. Has no second derivative.
    """
    return cast("Tensor", _PairLoss.apply(users, items, user, torch.cat([item[:, None], negative], 1)))


def weighted_squares(table: Tensor, weight: Tensor) -> Tensor:
    """The sum over the rows of ``weight`` [R] times the squared length of a row of ``table`` [R, D]; a gradient by the table alone."""
    return cast("Tensor", _WeightedSquares.apply(table, weight))


class _PairLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, user: Tensor, drawn: Tensor) -> Tensor:
        """drawn [B, 1 + n], the positive first."""
        own, others = F.embedding(user, users), F.embedding(drawn, items)
        apart = others[:, 1:] - others[:, :1]  # [B, n, D]
        score = (apart * own[:, None]).sum(-1)  # s_uj - s_ui
        ctx.save_for_backward(own, apart, score, user, drawn)
        ctx.rows = len(users), len(items)
        return F.softplus(score).mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        own, apart, score, user, drawn = ctx.saved_tensors
        n_users, n_items = ctx.rows
        slope = (score.sigmoid() * (gradients[0] / score.numel()))[:, :, None]  # [B, n, 1]
        of_others = own.new_empty(*drawn.shape, own.shape[1])
        torch.mul(slope, own[:, None], out=of_others[:, 1:])
        torch.mul(-slope.sum(1), own, out=of_others[:, 0])
        of_own = (slope * apart).sum(1) if apart.shape[1] > 1 else slope[:, 0] * apart[:, 0]
        return scattered(of_own, user, n_users), scattered(of_others, drawn, n_items), None, None


class _WeightedSquares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(table, weight)
        return torch.linalg.vecdot(table, table) @ weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        table, weight = ctx.saved_tensors
        return (2 * gradients[0] * weight)[:, None] * table, None


def scattered(rows: Tensor, index: Tensor, n: int) -> Tensor:
    """[n, D]: the sums of rows [.., D] by index [..], read in the order of their index, so that each sum is written once: a third of the time."""
    index = index.flatten()
    start = F.pad(torch.bincount(index, minlength=n).cumsum(0), (1, 0))
    rows = rows.reshape(len(index), -1)
    return F.embedding_bag(index.argsort(stable=True), rows, start, mode="sum", include_last_offset=True)
