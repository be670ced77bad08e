"""A graph with named relations, whose edges get a weight by attention once an epoch [KGAT].

    pi(h, r, t) = (W_r e_t) . tanh(W_r e_h + r),      weight of an edge = softmax over the edges that leave h

without a gradient: the weights are held fixed while the vectors learn. Several relations between two nodes are several edges.

Shapes: N nodes, E edges, P relations, D width of nodes, R width of a relation's space.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.nn.graph.sparse_graph import SparseGraph

#: Numbers of one side of the edges that are mapped at once.
CELLS_AT_ONCE = 1 << 22


class RelationGraph:
    """Edges by head and then by tail: head, relation, tail [E] int64. A head receives from its tails."""

    def __init__(self, head: Tensor, relation: Tensor, tail: Tensor, n_nodes: int) -> None:
        order = (head * n_nodes + tail).argsort(stable=True)
        self.head, self.relation, self.tail, self.n_nodes = head[order], relation[order], tail[order], n_nodes
        #: With equal weights, 1 / edges of the head.
        self.even = SparseGraph.of(self.head, self.tail, n_nodes, normalise="left")

    @property
    def n_edges(self) -> int:
        return len(self.head)

    def to(self, device: torch.device | str) -> RelationGraph:
        if self.head.device != torch.device(device):
            self.head, self.relation, self.tail = (part.to(device) for part in (self.head, self.relation, self.tail))
            self.even = self.even.to(device)
        return self

    @torch.no_grad()
    def attended(self, nodes: Tensor, relations: Tensor, maps: Tensor) -> SparseGraph:
        """The graph with weights by attention. nodes [N, D] · relations [P, R] · maps [P, D, R]."""
        score = nodes.new_empty(self.n_edges)
        step = max(1, CELLS_AT_ONCE // maps.shape[2])
        for number in range(len(relations)):
            edges = (self.relation == number).nonzero()[:, 0]
            for some in edges.split(step):
                told, known = (nodes[ends[some]] @ maps[number] for ends in (self.tail, self.head))
                score[some] = (told * torch.tanh(known + relations[number])).sum(dim=1)
        return self.even.with_weight(softmax_by_head(score, self.head, self.n_nodes))


def softmax_by_head(score: Tensor, head: Tensor, n_nodes: int) -> Tensor:
    """[E] the softmax of scores [E] over the edges of each head [E]."""
    most = score.new_full((n_nodes,), -torch.inf).scatter_reduce(0, head, score, "amax")
    grown = (score - most[head]).exp()
    return grown / score.new_zeros(n_nodes).index_add(0, head, grown)[head]


def translation_loss(
    head: Tensor, relation: Tensor, tail: Tensor, wrong: Tensor, relations: Tensor, maps: Tensor
) -> Tensor:
    """TransR's loss of triples, softplus(g(h, r, t) - g(h, r, t')) with g = |W_r h + r - W_r t|^2.

    head, tail, wrong [B, D], relation [B] int64 of relations [P, R] and maps [P, D, R]. Triples of one relation are mapped together: a map for each
    of them would be B times D times R numbers, and as many gradients.
    """
    order = relation.argsort(stable=True)
    apart = torch.stack([head - tail, head - wrong], dim=1)[order]
    present, sizes = relation[order].unique_consecutive(return_counts=True)
    own = maps.unbind()
    mapped = [part @ own[r] for part, r in zip(apart.split(sizes.tolist()), present.tolist(), strict=True)]
    distance = (torch.cat(mapped) + F.embedding(relation[order], relations)[:, None]).square().sum(dim=2)
    return F.softplus(distance[:, 0] - distance[:, 1]).mean()
