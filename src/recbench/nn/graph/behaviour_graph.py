"""Sessions as graphs whose edges are typed by the behaviours at their ends, and one gated step of messages along them.

Nodes are the distinct items of a session. With K kinds of behaviour there are R = 2 (K^2 + K) relations, each an edge from an earlier event to a
later one and, as a relation of its own, back:

    (b -> b')   between consecutive events with the behaviours b and b': K^2 of them
    skip b      between an event with behaviour b and the last one before it with the same, where others lie between: K of them

With a single kind nothing can be skipped, so there are two relations, in and out. A transition that is made twice is two edges and weighs twice in a
mean. Edges are one flat list for the whole batch, sorted by relation: at 512 sessions of 20 events, 3 kinds and d 64 the messages take 21 ms
forward and backward on one core, where dense [B, R, L, L] adjacencies take 237 ms; building the graphs takes 4 ms.

The graph is torch-geometric's ``Data``, which costs less than 0.1 ms a batch, so any of its layers reads it. ``RelationStep`` gives what its
``RGCNConv`` with ``aggr="mean"`` gives, in a sixth of the time (benchmarks/RESULTS.md): edges are sorted by relation, so each is one product.

Shapes: B rows, L positions, K kinds, R relations, M nodes and E edges of the whole batch, D hidden size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recbench.nn.graph.session_graph import first_events

if TYPE_CHECKING:
    from torch_geometric.data import Data


def n_relations(n_kinds: int) -> int:
    """R of K kinds of behaviour."""
    return 2 * (n_kinds * n_kinds + (n_kinds if n_kinds > 1 else 0))


def behaviour_graph(items: Tensor, kinds: Tensor, mask: Tensor, n_kinds: int) -> Data:
    """items [B, L], kinds [B, L] in 0..K-1, mask [B, L] True at real positions -> their graphs side by side as one; nothing of a pad is in them.

    item [M] int64: of each node · alias [B, L] int64: the node of each position (some node at pads) ·
    edge_index [2, E] int64: from node, to node, by relation · edge_type [E] int64: the relation ·
    edge_weight [E]: 1 / number of edges with that target and relation · per_type: number of edges of each relation, a list of R.
    """
    from torch_geometric.data import Data

    item, alias = nodes(items, mask)
    source, target, relation = typed_edges(alias, kinds, mask, n_kinds)
    if torch.compiler.is_exporting():
        return _unsorted(item, alias, torch.stack([source, target]), relation, n_relations(n_kinds))
    order = relation.argsort(stable=True)
    edge_index, relation = torch.stack([source, target])[:, order], relation[order]
    n = n_relations(n_kinds)
    meeting = edge_index[1] * n + relation
    weight = torch.bincount(meeting, minlength=1)[meeting].reciprocal()
    per_type = torch.bincount(relation, minlength=n)[:n].tolist()
    return Data(
        item=item,
        alias=alias,
        edge_index=edge_index,
        edge_type=relation,
        edge_weight=weight,
        per_type=per_type,
        num_nodes=item.shape[0],  # not len(), which an exported program cannot trace
    )


def _unsorted(item: Tensor, alias: Tensor, edge_index: Tensor, relation: Tensor, n: int) -> Data:
    """The same graph for an exported program, which cannot sort stably nor count: edges as they were met, and no ``per_type``."""
    from torch_geometric.data import Data

    meeting = edge_index[1] * n + relation
    ones = torch.ones_like(meeting, dtype=torch.float32)
    count = torch.zeros(item.shape[0] * n, device=item.device).index_add(0, meeting, ones)
    weight = count[meeting].reciprocal()
    return Data(
        item=item, alias=alias, edge_index=edge_index, edge_type=relation, edge_weight=weight, num_nodes=item.shape[0]
    )


def nodes(items: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(item of each node [M], node of each position [B, L]); nodes stand row by row, in the order of their first events."""
    first = first_events(items)
    starts = mask & (first == torch.arange(items.shape[1], device=items.device))
    number = (starts.flatten().cumsum(0) - 1).view_as(first).clamp_min(0)
    return items[starts], number.gather(1, first)


def typed_edges(alias: Tensor, kinds: Tensor, mask: Tensor, n_kinds: int) -> tuple[Tensor, Tensor, Tensor]:
    """(source [E], target [E], relation [E]); relations below R / 2 lead on in time, the others lead back along the same edges."""
    between = mask[:, 1:]
    source, target = alias[:, :-1][between], alias[:, 1:][between]
    relation = (kinds[:, :-1] * n_kinds + kinds[:, 1:])[between]
    if n_kinds > 1:
        before = last_of_same_kind(kinds, mask, n_kinds)
        places = torch.arange(kinds.shape[1], device=kinds.device)
        skips = (before >= 0) & (before < places - 1)
        source = torch.cat([source, alias.gather(1, before.clamp_min(0))[skips]])
        target = torch.cat([target, alias[skips]])
        relation = torch.cat([relation, n_kinds * n_kinds + kinds[skips]])
    back = relation + n_relations(n_kinds) // 2
    return torch.cat([source, target]), torch.cat([target, source]), torch.cat([relation, back])


def last_of_same_kind(kinds: Tensor, mask: Tensor, n_kinds: int) -> Tensor:
    """[B, L]: the last earlier position with the same kind as each, -1 where there is none, and at pads."""
    places = torch.arange(kinds.shape[1], device=kinds.device)
    if torch.compiler.is_exporting():  # other runtimes know no running maximum
        same = (kinds[:, :, None] == kinds[:, None, :]) & mask[:, None, :] & (places < places[:, None])
        return torch.where(same, places, -1).amax(-1).masked_fill(~mask, -1)
    is_kind = (kinds[..., None] == torch.arange(n_kinds, device=kinds.device)) & mask[..., None]
    latest = torch.where(is_kind, places[:, None], -1).cummax(1).values
    before = nn.functional.pad(latest[:, :-1], (0, 0, 1, 0), value=-1)
    return before.gather(2, kinds[..., None])[..., 0].masked_fill(~mask, -1)


class RelationStep(nn.Module):
    """m_i = sum over relations r of the mean over N_r(i) of W_r h_j;   h_i <- GRUCell(m_i, h_i). Nodes [M, D] -> [M, D]."""

    def __init__(self, width: int, n_kinds: int) -> None:
        super().__init__()
        self.relations = nn.Parameter(torch.empty(n_relations(n_kinds), width, width))
        self.cell = nn.GRUCell(width, width)
        nn.init.uniform_(self.relations, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, states: Tensor, graph: Data) -> Tensor:
        return self.cell(self.messages(states, graph), states)

    def messages(self, states: Tensor, graph: Data) -> Tensor:
        """m [M, D]."""
        source, target = graph.edge_index
        read = states[source] * graph.edge_weight[:, None]
        if torch.compiler.is_exporting():  # of each relation all edges, and 0 from those of others
            each = [
                (read @ weight) * (graph.edge_type == n)[:, None].to(read.dtype)
                for n, weight in enumerate(self.relations)
            ]
            sent = torch.stack(each).sum(0)
        else:
            sent = torch.cat(
                [part @ weight for part, weight in zip(read.split(graph.per_type), self.relations, strict=True)]
            )
        return torch.zeros_like(states).index_add(0, target, sent)
