"""Items that occur together in training sessions, and a contrastive loss that draws them together.

Shapes: V = n_items + 1, N neighbours kept of an item, M distinct items of a batch, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from recbench.data.training import TrainingData


def cooccurrence_table(train: TrainingData, window: int, n_kept: int, min_sessions: int) -> Tensor:
    """[V, N] int64: the items most often found within ``window`` events of each item, most sessions first, then smaller ids; 0 where fewer.

    Only training events are read. Counted are sessions, not events. A pair of fewer than ``min_sessions`` sessions is left out: from 2 on, every
    pair has a session besides the one in which it is met.
    """
    session, item, _ = train.flat()
    pairs = [
        np.stack([session[:-k], item[:-k], item[k:]])[:, (session[:-k] == session[k:]) & (item[:-k] != item[k:])]
        for k in range(1, min(window, len(item) - 1) + 1)
    ]
    table = np.zeros((train.n_items + 1, n_kept), dtype=np.int64)
    if not pairs:
        return torch.from_numpy(table)
    forth = np.concatenate(pairs, axis=1).astype(np.int64)
    both = np.concatenate([forth, forth[[0, 2, 1]]], axis=1)
    v = train.n_items + 1
    met = np.unique((both[0] * v + both[1]) * v + both[2]) % (v * v)  # each pair once a session
    pair, count = np.unique(met, return_counts=True)
    pair, count = pair[count >= min_sessions], count[count >= min_sessions]
    first, second = pair // v, pair % v
    order = np.lexsort((second, -count, first))
    first, second = first[order], second[order]
    rank = np.arange(len(first)) - np.searchsorted(first, first)
    kept = rank < n_kept
    table[first[kept], rank[kept]] = second[kept]
    return torch.from_numpy(table)


class CooccurrenceContrast(nn.Module):
    """InfoNCE on item vectors: an item and one it occurs together with, drawn from its row of the table, against those of the batch's other items.

        L = mean over the M items i of  -log exp(s_i,i+) / sum over items j of exp(s_i,j+),     s = cosine / temperature

    An item is no negative to another where it is that item itself or its positive. Items with an empty row are left out.
    """

    table: Tensor
    n_neighbours: Tensor

    def __init__(self, table: Tensor, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        # Not stored: nothing but training reads it, and it follows from the training data, which the run key names.
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("n_neighbours", (table > 0).sum(1), persistent=False)

    def forward(self, items: Tensor, vectors: Tensor) -> Tensor:
        """items [..] int64 (0 is none), vectors [V, D] -> scalar; 0 where no item has a neighbour."""
        present = items.unique()
        present = present[self.n_neighbours[present] > 0]
        if not len(present):
            return vectors.sum() * 0.0
        drawn = (torch.rand(len(present), device=present.device) * self.n_neighbours[present]).long()
        positive = self.table[present, drawn]
        scores = F.normalize(vectors[present], dim=1) @ F.normalize(vectors[positive], dim=1).T / self.temperature
        same = (positive == positive[:, None]) | (positive == present[:, None])
        itself = torch.eye(len(present), dtype=torch.bool, device=present.device)
        target = torch.arange(len(present), device=present.device)
        return F.cross_entropy(scores.masked_fill(same & ~itself, -torch.inf), target)
