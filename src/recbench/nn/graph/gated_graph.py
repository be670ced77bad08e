"""What SR-GNN, GC-SAN and TAGNN share: a gated step along the edges of a session's graph, and a soft attention that sums the session up.

Shapes: B sessions, L events of the longest, M nodes of all sessions, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError, nearest
from recbench.data.batches import Batch
from recbench.nn.graph.session_graph import SparseGraphs, sparse_graphs

EDGES = ("binary", "count")


def check_edges(edges: str) -> None:
    """Raise UserError for a kind of edge weight that is not known."""
    if edges not in EDGES:
        raise UserError(f"unknown model.edges '{edges}'; {nearest(edges, EDGES)}")


def session_graphs(batch: Batch, n_items: int, edges: str) -> SparseGraphs:
    """The graphs of a batch, with the kind of edges that a config names."""
    return sparse_graphs(batch.items, batch.lengths, n_items, count_edges=edges == "count")


class GatedGraphStep(nn.Module):
    """One gated step of every node [SR-GNN, eqs. 1-5]. states [M, D] -> [M, D].

        m = [A_in (W_in h + c_in) ; A_out (W_out h + c_out)] + b;   h <- GRU(m, h)

    The cell is torch's own, ``GRUCell(2 D, D)``: the same gates in the same order. b is added after the sum over neighbours, so that a node
    without predecessors hears it too.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.neighbours = nn.Linear(hidden_size, 2 * hidden_size)
        self.bias = nn.Parameter(torch.zeros(2 * hidden_size))
        self.cell = nn.GRUCell(2 * hidden_size, hidden_size)

    def forward(self, states: Tensor, graphs: SparseGraphs) -> Tensor:
        before, after = self.neighbours(states).chunk(2, dim=-1)
        messages = torch.cat([graphs.from_before(before), graphs.from_after(after)], dim=-1) + self.bias
        return self.cell(messages, states)


class GatedGraph(nn.Module):
    """``n_steps`` gated steps with the same weights. Returns the states before the first and after each, [M, D] each."""

    def __init__(self, hidden_size: int, n_steps: int) -> None:
        super().__init__()
        self.step, self.n_steps = GatedGraphStep(hidden_size), n_steps

    def forward(self, states: Tensor, graphs: SparseGraphs) -> list[Tensor]:
        found = [states]
        for _ in range(self.n_steps):
            found.append(self.step(found[-1], graphs))
        return found


class SoftAttention(nn.Module):
    """A session's vector from its events' nodes [SR-GNN, eqs. 6-7]. (states [B, L, D] by event, last [B, D], real [B, L]) -> [B, D].

        a_p = q^T sigmoid(W1 l + W2 g_p + b);   s_g = sum_p a_p g_p;   s = W3 [s_g ; l]

    The sum runs over events, so that an item that came twice counts twice. With ``normalised`` a is a softmax over the events, pads left out.
    """

    def __init__(self, hidden_size: int, normalised: bool = False) -> None:
        super().__init__()
        self.from_last = nn.Linear(hidden_size, hidden_size)
        self.from_node = nn.Linear(hidden_size, hidden_size, bias=False)
        self.weight = nn.Linear(hidden_size, 1, bias=False)
        self.combine = nn.Linear(2 * hidden_size, hidden_size)
        self.normalised = normalised

    def forward(self, states: Tensor, last: Tensor, real: Tensor) -> Tensor:
        a = self.weight(torch.sigmoid(self.from_last(last)[:, None] + self.from_node(states)))[:, :, 0]
        a = a.masked_fill(~real, -torch.inf).softmax(dim=1) if self.normalised else a * real
        return self.combine(torch.cat([torch.bmm(a[:, None], states)[:, 0], last], dim=-1))


@torch.no_grad()
def uniform_start(module: nn.Module, hidden_size: int) -> None:
    """Every weight and bias from U(-1/sqrt D, 1/sqrt D), as the authors of this family start; the pad's vector at 0."""
    bound = hidden_size**-0.5
    for parameter in module.parameters():
        parameter.uniform_(-bound, bound)
    for part in module.modules():
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            part.weight[part.padding_idx] = 0.0
