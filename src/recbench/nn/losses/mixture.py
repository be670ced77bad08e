"""The softmax over a catalogue of a mixture, without a score for each user, part and item in memory at once.

    log p_i = log sum over parts k of c_ki exp(z_k . t_i)        -log softmax(log p)_i = partition - log p_i

Shapes: B rows, K parts, V items with the pad in front, D width, L items of a row.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.nn.item_sets import ItemSets
from recbench.nn.losses.buffers import workspace
from recbench.nn.losses.forward_gradients import MadeGradients

#: Scores of a chunk: they are read several times, so they had better stay near the processor.
CHUNK_VALUES = 2 * 2**20


def mixture_loss(z: Tensor, table: Tensor, log_shares: Tensor, sets: list[ItemSets]) -> Tensor:
    """Mean over the rows of the sum over their items of -log softmax(log p), the pad taking no part.

    z [B, K, D], table [V, D], log_shares [V, K] = log c; sets: groups of rows, items [b, L] of which those count where a mask [b, L] is True.
    """
    log_p = []
    for own, (items, there) in zip(z.split([len(items) for items, _ in sets]), sets, strict=True):
        products = torch.einsum("bkd,bld->blk", own, F.embedding(items, table))
        log_p.append((products + F.embedding(items, log_shares)).logsumexp(2).masked_fill(~there, 0.0).sum())
    counts = torch.cat([there.sum(1) for _, there in sets]).to(z.dtype)
    with torch.autocast(z.device.type, enabled=False):
        partition = _Partition.apply(z, table, log_shares, counts)
    return (partition - torch.stack(log_p).sum()) / len(z)


@torch.no_grad()
def mixture_scores(z: Tensor, table: Tensor, log_shares: Tensor) -> Tensor:
    """log p [B, V], for answers: no gradient, and a chunk of rows at a time. Shapes as in ``mixture_loss``."""
    (n, parts, width), n_items = z.shape, len(table)
    rows = max(1, CHUNK_VALUES // (parts * n_items))
    buffer = workspace(min(rows, n) * parts * n_items, z.dtype, z.device)
    out, added = z.new_empty(n, n_items), log_shares.T.contiguous()
    for first in range(0, n, rows):
        states = z[first : first + rows].reshape(-1, width)
        scores = buffer[: len(states) * n_items].view(len(states), n_items)
        torch.mm(states, table.T, out=scores)
        p = scores.view(-1, parts, n_items).add_(added)
        most = p.amax(1, keepdim=True)
        torch.sum(p.sub_(most).exp_(), 1, out=out[first : first + rows]).log_().add_(most[:, 0])
    return out


class _Partition(MadeGradients):
    """Sum over rows b of weights_b log sum over k and i >= 1 of c_ki exp(z_bk . t_i), with its gradients, a chunk of rows at a time."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, table: Tensor, log_shares: Tensor, weights: Tensor) -> Tensor:
        (n, parts, width), n_items = z.shape, len(table)
        rows = max(1, CHUNK_VALUES // (parts * n_items))
        buffer = workspace(min(rows, n) * parts * n_items, z.dtype, z.device)
        added = log_shares.detach().T.contiguous()
        added[:, 0] = -torch.inf
        grads = torch.empty_like(z), torch.zeros_like(table), torch.zeros_like(added)
        total = z.new_zeros(())
        for first in range(0, n, rows):
            states = z.detach()[first : first + rows]
            flat, own = states.reshape(-1, width), weights[first : first + rows, None]
            scores = buffer[: len(flat) * n_items].view(len(flat), n_items)
            torch.mm(flat, table.detach().T, out=scores)
            p = scores.view(len(states), parts, n_items).add_(added).view(len(states), -1)
            most = p.amax(1, keepdim=True)
            sums = p.sub_(most).exp_().sum(1, keepdim=True)
            total += ((most + sums.log()) * own).sum()
            p.mul_(own / sums)
            torch.mm(scores, table.detach(), out=grads[0][first : first + rows].view(-1, width))
            grads[1].addmm_(scores.T, flat)
            grads[2].add_(p.view(len(states), parts, n_items).sum(0))
        ctx.grads = (grads[0], grads[1], grads[2].T)
        return total
