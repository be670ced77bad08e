"""The graph of all training sessions, as a table of each item's strongest neighbours, and the attention that reads it [GCE-GNN, SIGIR 2020,
3.2-3.3].

Two items are neighbours where they stand at most ``window`` events apart in a training session, in either order; the weight is how often. Of
each item the ``n_neighbours`` heaviest are kept, among equals those of lower id, so that the table is a function of the training events alone.

An item with fewer neighbours than that has empty places (id 0), which are masked; the authors' code fills them by drawing neighbours again, at
random.

The graph is torch-geometric's ``HeteroData`` (``item_graph``), made once; a layer reads the table, not the graph. A table has as many places for
every item, so that one gather and one product serve all; the same layer over a ragged list of edges, with the library's softmax over them,
takes longer (benchmarks/RESULTS.md).

Shapes: V = n_items + 1, K neighbours, M nodes, B sessions, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recbench.nn.graph.item_graph import item_graph, strongest
from recbench.nn.transformer.dropout import Dropout

if TYPE_CHECKING:
    from recbench.data.training import TrainingData

#: Neighbours of neighbours [rows, D] that exist at once; a batch with more goes piece by piece, each computed again for its gradient.
ROWS_AT_ONCE = 2**18


def neighbour_table(train: TrainingData, window: int, n_neighbours: int) -> tuple[Tensor, Tensor]:
    """(neighbours [V, K] int32, weights [V, K] float32) of the training events, heaviest first; 0 and 0 in empty places."""
    neighbours, weights = strongest(item_graph(train, window), n_neighbours)
    return neighbours.int(), weights.float()


class GlobalLayer(nn.Module):
    """One layer: an item's state and its neighbours', weighed by how they suit the session. [M, D], [M, K, D] -> [M, D].

    pi_j = q^T leaky_relu(W1 [s * h_j ; w_j]);   h <- relu(W2 drop([h ; sum_j softmax(pi)_j h_j]))
    """

    def __init__(self, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.match = nn.Linear(hidden_size, hidden_size, bias=False)
        self.from_weight = nn.Linear(1, hidden_size, bias=False)
        self.query = nn.Linear(hidden_size, 1, bias=False)
        self.combine = nn.Linear(2 * hidden_size, hidden_size, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, own: Tensor, near: Tensor, weights: Tensor, wish: Tensor) -> Tensor:
        """own [M, D] · near [M, K, D] · weights [M, K], 0 in empty places · wish [M, D]: s of each node's session."""
        pi = self.query(F.leaky_relu(self.match(wish[:, None] * near) + self.from_weight(weights[..., None]), 0.2))
        real = weights > 0
        # A node without neighbours has no softmax: its weights are all 0 then.
        share = pi[..., 0].masked_fill(~real, -1e9).softmax(dim=1) * real
        heard = torch.bmm(share[:, None], near)[:, 0]
        return torch.relu(self.combine(self.dropout(torch.cat([own, heard], dim=-1))))


class GlobalGraph(nn.Module):
    """States of items from their surroundings of ``hops`` steps in the graph of all training sessions.

    The table is part of the module's state, because a stored model is built again without its training data; without any it starts empty.
    """

    neighbours: Tensor
    weights: Tensor

    def __init__(
        self,
        n_items: int,
        hidden_size: int,
        hops: int,
        n_neighbours: int,
        window: int,
        dropout: float,
        train: TrainingData | None,
    ) -> None:
        super().__init__()
        empty = torch.zeros(n_items + 1, n_neighbours)
        table = (empty.int(), empty) if train is None else neighbour_table(train, window, n_neighbours)
        self.register_buffer("neighbours", table[0])
        self.register_buffer("weights", table[1])
        self.layers = nn.ModuleList(GlobalLayer(hidden_size, dropout) for _ in range(hops))

    def forward(self, items: Tensor, session: Tensor, wishes: Tensor, table: nn.Embedding) -> Tensor:
        """Nodes items [M] of the sessions ``session`` [M], whose mean vectors are wishes [B, D] -> [M, D]."""
        hops = len(self.layers)
        at_once = max(1, ROWS_AT_ONCE // self.neighbours.shape[1] ** hops)
        if len(items) <= at_once:
            return self._after(hops, items, session, wishes, table)
        pieces = []
        for part, of in zip(items.split(at_once), session.split(at_once), strict=True):
            if torch.is_grad_enabled():
                pieces.append(checkpoint(self._after, hops, part, of, wishes, table, use_reentrant=False))
            else:
                pieces.append(self._after(hops, part, of, wishes, table))
        return torch.cat(pieces)

    def _after(self, n: int, items: Tensor, session: Tensor, wishes: Tensor, table: nn.Embedding) -> Tensor:
        """States after n layers; the n-th hears neighbours as n - 1 layers left them. [M] -> [M, D]."""
        if n == 0:
            return table(items)
        neighbours = self.neighbours[items].long()
        if n == 1:
            return self.layers[0](table(items), table(neighbours), self.weights[items], wishes[session])
        # What an item hears depends on the session and on nothing else, and the surroundings of a session's items overlap: each is made once.
        real = neighbours > 0
        owner = session[:, None].expand_as(neighbours)[real]
        size = len(self.neighbours)
        pairs = torch.cat([session * size + items, owner * size + neighbours[real]])
        different, place = pairs.unique(return_inverse=True)
        inner = self._after(n - 1, different % size, different // size, wishes, table)
        own, around = inner[place[: len(items)]], inner[place[len(items) :]]
        near = inner.new_zeros(*neighbours.shape, inner.shape[1]).masked_scatter(real[..., None], around)
        return self.layers[n - 1](own, near, self.weights[items], wishes[session])
