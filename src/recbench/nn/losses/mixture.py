"""The softmax over a catalogue of a mixture, without a score for each user, part and item in memory at once.

    log p_i = log sum over parts k of c_ki exp(z_k . t_i)        -log softmax(log p)_i = partition - log p_i

Shapes: B rows, K parts, V items with the pad in front, D width, L items of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    out = z.new_empty(len(z), len(table))
    for chunk, p in _scored(z, table, log_shares.T.contiguous()):
        most = p.amax(1, keepdim=True)
        torch.sum(p.sub_(most).exp_(), 1, out=out[chunk]).log_().add_(most[:, 0])
    return out


def _scored(z: Tensor, table: Tensor, added: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """(a chunk of rows, log c_ki + z_k . t_i of them [b, K, V], all chunks in one buffer). added [K, V] = log c."""
    (n, parts, width), n_items = z.shape, len(table)
    rows = max(1, CHUNK_VALUES // (parts * n_items))
    buffer = workspace(min(rows, n) * parts * n_items, z.dtype, z.device)
    for first in range(0, n, rows):
        chunk = slice(first, first + rows)
        states = z[chunk].reshape(-1, width)
        scores = buffer[: len(states) * n_items].view(len(states), n_items)
        torch.mm(states, table.T, out=scores)
        yield chunk, scores.view(-1, parts, n_items).add_(added)


class _Partition(MadeGradients):
    """Sum over rows b of weights_b log sum over k and i >= 1 of c_ki exp(z_bk . t_i), with its gradients, a chunk of rows at a time."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, table: Tensor, log_shares: Tensor, weights: Tensor) -> Tensor:
        z, table = z.detach(), table.detach()
        added = log_shares.detach().T.contiguous()
        added[:, 0] = -torch.inf
        grads = torch.empty_like(z), torch.zeros_like(table), torch.zeros_like(added)
        total = z.new_zeros(())
        for chunk, scores in _scored(z, table, added):
            p, own = scores.view(len(scores), -1), weights[chunk, None]
            most = p.amax(1, keepdim=True)
            sums = p.sub_(most).exp_().sum(1, keepdim=True)
            total += ((most + sums.log()) * own).sum()
            p.mul_(own / sums)
            flat = scores.view(-1, len(table))
            torch.mm(flat, table, out=grads[0][chunk].view(-1, table.shape[1]))
            grads[1].addmm_(flat.T, z[chunk].reshape(-1, table.shape[1]))
            grads[2].add_(scores.sum(0))
        ctx.grads = (grads[0], grads[1], grads[2].T)
        return total
