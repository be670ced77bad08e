"""The graph of users and items: who has what in training, and views of it that lack some edges.

Nodes: user u is node u, item i is node U + i; the pad, item 0, is the node U, which has no edge, so that item tables go in as they are:
``torch.cat([users, items])`` is the table of all nodes. Each pair of a user and an item is there once and in both directions, with the weight

    1 / sqrt(deg u * deg i)

so the graph is symmetric, and the backward pass is the product again (``recbench.nn.graph.sparse_graph``, which says how other graphs, of items
or of a knowledge graph, use the same product). A node without edges receives nothing: of a mean of layers it keeps its own vector's share.

**Views.** ``kept`` and ``dropped`` take or leave whole pairs, both directions together, so a view is symmetric too. Published code draws the two
directions apart (SSLRec, RLMRec, LightGCN), which is not what their papers say. Three rules on the weights that stay are in use: as they were
(SSLRec, RLMRec), divided by the share kept (LightGCN: ``rescale``), or made from the degrees that are left (FREEDOM: ``renormalise``).

Shapes: U users, V = n_items + 1, P pairs, E = 2 P edges, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from recbench.nn.graph.sparse_graph import SparseGraph

if TYPE_CHECKING:
    from recbench.data.training import TrainingData


class Bipartite(SparseGraph):
    """See the head of this file. The edges of users stand first, by user and then by item; then those of items."""

    def __init__(self, start: Tensor, column: Tensor, weight: Tensor, n_users: int, mirror: Tensor) -> None:
        """mirror [P]: of the edges of items, in order, which pair each is."""
        n = len(start) - 1
        super().__init__(start, column, weight, (n, n), symmetric=True)
        self.n_users, self.mirror = n_users, mirror

    @classmethod
    def of_training(cls, train: TrainingData) -> Bipartite:
        """The graph of the training events; a pair that happened several times is one pair."""
        user, item, _ = train.flat()
        return cls.of_pairs(
            torch.from_numpy(user), torch.from_numpy(item.astype(np.int64)), train.n_users, train.n_items
        )

    @classmethod
    def of_pairs(cls, user: Tensor, item: Tensor, n_users: int, n_items: int) -> Bipartite:
        """From pairs in any order: user [..] int64 from 0, item [..] int64 from 1."""
        width = n_items + 1
        pair = torch.unique(user * width + item)  # sorted by user and then by item
        user, item = pair // width, pair % width
        mirror = item.argsort(stable=True)
        row, column = torch.cat([user, n_users + item[mirror]]), torch.cat([n_users + item, user[mirror]])
        degree = torch.bincount(row, minlength=n_users + width)
        start = torch.nn.functional.pad(degree.cumsum(0), (1, 0))
        weight = (degree[row].double() * degree[column].double()).rsqrt().float()
        return cls(start, column, weight, n_users, mirror)

    @property
    def n_pairs(self) -> int:
        return len(self.mirror)

    @property
    def users(self) -> Tensor:
        """[P] the user of each pair."""
        return self.rows()[: self.n_pairs]

    @property
    def items(self) -> Tensor:
        """[P] the item of each pair, from 1."""
        return self.column[: self.n_pairs] - self.n_users

    def degree(self) -> Tensor:
        """[U + V] int64."""
        return self.start.diff()

    def of_some(self, keep: Tensor, scale: float = 1.0, renormalise: bool = False) -> Bipartite:
        """The view of the pairs where keep [P] bool is True. scale: times the weights; renormalise: weights from the degrees that are left."""
        both = torch.cat([keep, keep[self.mirror]])
        before = torch.nn.functional.pad(both.cumsum(0), (1, 0))
        start, column, weight = before[self.start], self.column[both], self.weight[both]
        if renormalise:
            degree = start.diff()
            row = torch.repeat_interleave(torch.arange(len(degree), device=start.device), degree)
            weight = (degree[row].double() * degree[column].double()).rsqrt().float()
        place = keep.cumsum(0) - 1
        mirror = place[self.mirror[keep[self.mirror]]]
        return Bipartite(start, column, weight * scale if scale != 1.0 else weight, self.n_users, mirror)

    def dropped(self, rate: float, generator: torch.Generator | None = None, rescale: bool = False) -> Bipartite:
        """A view without a random share ``rate`` of the pairs, each drawn for itself. rescale: the kept weights are divided by 1 - rate.

        generator: of the CPU, or torch's own. Raises ValueError for a rate outside 0 .. 1.
        """
        if not 0 <= rate < 1:
            raise ValueError(f"a share of {rate:g} of the edges cannot be dropped; it must lie from 0 to below 1")
        keep = torch.rand(self.n_pairs, generator=generator) >= rate
        return self.of_some(keep.to(self.start.device), 1 / (1 - rate) if rescale else 1.0)

    def sampled(self, n: int, generator: torch.Generator | None = None) -> Bipartite:
        """A view of n pairs, drawn without replacement with a probability that is proportional to their weights, renormalised (FREEDOM).

        By the largest of weights with Gumbel noise, because ``torch.multinomial`` refuses more than 2^24 of them.
        """
        noise = -torch.empty(self.n_pairs).exponential_(generator=generator).log().to(self.weight.device)
        keep = torch.zeros(self.n_pairs, dtype=torch.bool, device=self.start.device)
        keep[(self.weight[: self.n_pairs].log() + noise).topk(min(n, self.n_pairs)).indices] = True
        return self.of_some(keep, renormalise=True)

    def to(self, device: torch.device | str) -> Bipartite:
        if self.start.device == torch.device(device):
            return self
        start, column, weight = (part.to(device) for part in (self.start, self.column, self.weight))
        return Bipartite(start, column, weight, self.n_users, self.mirror.to(device))

    def split(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """A table of all nodes [U + V, D] -> (users [U, D], items [V, D])."""
        return cast("tuple[Tensor, Tensor]", nodes.split([self.n_users, len(nodes) - self.n_users]))
