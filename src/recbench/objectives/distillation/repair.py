"""Two-way repair of a student's list: what its teacher lists and it does not goes up, what it lists and its teacher does not goes down.

    T = teacher's K best items, S = student's;     L = mean over i in S \\ T, j in T \\ S of softplus( s(i) - s(j) )

so a list that holds the teacher's items, in any order, costs nothing. The form of few-shot model extraction [arXiv 2411.11677], read at second
hand: no code was found. Beside ``ranking``, which holds the order.

Shapes: N positions, K items of a list, L barred items, E width of the item vectors, V = n_items + 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.nn.losses import catalogue


def repair_loss(queries: Tensor, vectors: Tensor, best: Tensor, barred: Tensor | None = None) -> Tensor:
    """Mean over positions; 0 where both lists hold the same. queries [N, E], vectors [V, E], best [N, K] (0: no item), barred [N, L] item ids that
    the student's list leaves out too, 0 where there is none."""
    own = own_lists(queries.detach(), vectors.detach(), best.shape[1], barred)
    wrong = ~(own[:, :, None] == best[:, None]).any(2)
    missing = ~(best[:, :, None] == own[:, None]).any(2) & (best > 0)
    lists = torch.cat([own, best], dim=1)
    scores = torch.einsum("ne,nke->nk", queries, vectors[lists])
    ours, theirs = scores.split([own.shape[1], best.shape[1]], dim=1)
    counts = wrong[:, :, None] & missing[:, None]
    cost = F.softplus(ours[:, :, None] - theirs[:, None]) * counts
    return (cost.sum((1, 2)) / counts.sum((1, 2)).clamp(min=1)).mean()


@torch.no_grad()
def own_lists(queries: Tensor, vectors: Tensor, k: int, barred: Tensor | None = None) -> Tensor:
    """[N, K] the items of the highest scores; in blocks, so that no more than a chunk of scores is held."""
    rows = max(1, catalogue.CHUNK_VALUES // len(vectors))
    found = []
    for first in range(0, len(queries), rows):
        scores = queries[first : first + rows] @ vectors.T
        if barred is not None:
            scores.scatter_(1, barred[first : first + rows], -torch.inf)
        scores[:, 0] = -torch.inf
        found.append(scores.topk(min(k, len(vectors) - 1), dim=1).indices)
    return torch.cat(found) if found else queries.new_zeros(0, k, dtype=torch.long)
