"""Items that occur together in training sessions, and a contrastive loss that draws them together.

Shapes: V = n_items + 1, N neighbours kept of an item, M distinct items of a batch, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.nn.graph.item_graph import item_graph, strongest

if TYPE_CHECKING:
    from recbench.data.training import TrainingData


def cooccurrence_table(train: TrainingData, window: int, n_kept: int, min_sessions: int) -> Tensor:
    """[V, N] int64: the items most often found within ``window`` events of each item, most sessions first, then smaller ids; 0 where fewer.

    Only training events are read. Counted are sessions, not events. A pair of fewer than ``min_sessions`` sessions is left out: from 2 on, every
    pair has a session besides the one in which it is met.
    """
    return strongest(item_graph(train, window, once_a_session=True), n_kept, least=min_sessions)[0]


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
