"""A weighted graph that vectors are sent along: the product of a sparse matrix with a table, forward and backward, and layers of it.

The edges are held as torch-geometric's ``EdgeIndex``, sorted by their first row, so its layers and samplers read the same object. The product
itself is ``embedding_bag``: the row r of A x is the weighted sum of the rows of x that r is joined with. On Gowalla (70,840 nodes, 1.62 million
entries, 64 wide, one thread) it takes a fifth of the CPU time of torch's CSR product, and far less than gathering and adding messages.

**Backward.** The gradient of y = A x by x is A^T g. A symmetric graph is its own transpose, so backward is the same product again, and nothing
but the graph is kept for it. A graph that is not symmetric makes its transpose at the first backward pass and keeps it.

**Who uses it.**

- Users and items: ``recbench.nn.graph.bipartite.Bipartite``, a symmetric graph with views that lack some edges.
- Items and items (neighbours by features, co-occurrence): ``SparseGraph.of(row, column, size=V, weight=w)`` with rows and columns as item ids,
  0 .. n_items. Row i sums up its neighbours: for "the mean of k neighbours" give the weight 1/k, or ``normalise="left"``. Say
  ``symmetric=True`` only if each edge is there in both directions with one weight.
- A knowledge graph: its entities are the nodes, and items are the entities 1 .. n_items, so entity vectors begin with the item table. For an
  attention that is computed anew once an epoch (``start_epoch``), build the graph once and call ``with_weight(values)``: the edges, and their
  order ``rows()`` / ``columns()``, stay. For users, items and entities in one graph shift the numbers: user u, then U + item, then U + entity.
  Weights carry no gradient here: an attention that is learned through the product needs torch-geometric's layers.

Shapes: N nodes that receive (rows), M nodes that send (columns; N in a square graph), E edges, D width.
"""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

COMBINE = ("mean", "sum", "last", "without_first")
NORMALISE = ("symmetric", "left", "none")


class SparseGraph:
    """Edges that are sorted by row and then by column, with a weight each. Not a module: it has no parameters and is never stored."""

    def __init__(
        self, start: Tensor, column: Tensor, weight: Tensor, shape: tuple[int, int], symmetric: bool = False
    ) -> None:
        """start [N + 1] int64: where the edges of each row begin · column [E] int64 · weight [E].

        Raises ValueError for weights with a gradient.
        """
        if weight.requires_grad:
            raise ValueError("the weights of a SparseGraph take no gradient; detach them")
        if symmetric and shape[0] != shape[1]:
            raise ValueError(f"a graph of shape {shape} cannot be symmetric")
        self.start, self.column, self.weight, self.shape, self.symmetric = start, column, weight, shape, symmetric
        self._transpose: SparseGraph | None = self if symmetric else None

    @classmethod
    def of(
        cls,
        row: Tensor,
        column: Tensor,
        size: int | tuple[int, int],
        weight: Tensor | None = None,
        normalise: str = "none",
        symmetric: bool = False,
    ) -> SparseGraph:
        """From edges in any order; an edge that is given twice counts twice. row receives, column sends, [E] int64 each; weight [E], or ones.

        normalise: "symmetric" divides each weight by sqrt(row sum * column sum), "left" by the row sum; sums are taken as 1 where they are 0.
        """
        shape = (size, size) if isinstance(size, int) else size
        order = (row * shape[1] + column).argsort(stable=True)
        row, column = row[order].long(), column[order].long()
        weight = torch.ones(len(row)) if weight is None else weight[order]
        start = F.pad(torch.bincount(row, minlength=shape[0]).cumsum(0), (1, 0))
        return cls(start, column, normalised(row, column, weight, shape, normalise), shape, symmetric)

    @property
    def n_edges(self) -> int:
        return len(self.column)

    @property
    def edge_index(self) -> Any:
        """[2, E] int64, torch-geometric's ``EdgeIndex``: its first row holds the receiving nodes, by which it is sorted."""
        from torch_geometric import EdgeIndex

        ends = torch.stack([self.rows(), self.column])
        return EdgeIndex(ends, sparse_size=self.shape, sort_order="row", is_undirected=self.symmetric)

    def rows(self) -> Tensor:
        """[E] the receiving node of each edge."""
        return torch.repeat_interleave(torch.arange(self.shape[0], device=self.start.device), self.start.diff())

    def columns(self) -> Tensor:
        """[E] the sending node of each edge."""
        return self.column

    def with_weight(self, weight: Tensor, symmetric: bool = False) -> SparseGraph:
        """The same edges with other weights [E], in the order of ``rows`` and ``columns``."""
        return SparseGraph(self.start, self.column, weight, self.shape, symmetric)

    def kept(self, keep: Tensor, weight: Tensor | None = None) -> SparseGraph:
        """The graph of the edges where keep [E] bool is True. weight [E]: other weights for all of them."""
        before = F.pad(keep.cumsum(0), (1, 0))
        chosen = (self.weight if weight is None else weight)[keep]
        return SparseGraph(before[self.start], self.column[keep], chosen, self.shape, self.symmetric)

    def to(self, device: torch.device | str) -> SparseGraph:
        """The same graph on a device; itself if it is there."""
        if self.start.device == torch.device(device):
            return self
        start, column, weight = (part.to(device) for part in (self.start, self.column, self.weight))
        return SparseGraph(start, column, weight, self.shape, self.symmetric)

    def transpose(self) -> SparseGraph:
        """Made once and kept."""
        if self._transpose is None:
            self._transpose = SparseGraph.of(self.column, self.rows(), (self.shape[1], self.shape[0]), self.weight)
        return self._transpose

    def product(self, x: Tensor) -> Tensor:
        """A x: [M, D] -> [N, D], with a gradient by x."""
        return cast("Tensor", _Product.apply(x, self))

    def layers(self, x: Tensor, n: int) -> list[Tensor]:
        """x, A x, A A x ...: n + 1 tables [N, D]."""
        found = [x]
        for _ in range(n):
            found.append(self.product(found[-1]))
        return found

    def propagate(self, x: Tensor, n: int, combine: str = "mean") -> Tensor:
        """The layers 0 .. n put together in one of the ways of COMBINE, [N, D], with a gradient by x.

        Equal to ``combined(layers(x, n), combine)``, gradient included, and holds no layer: what each table adds is added in place.
        """
        check_combine(combine)
        return cast("Tensor", _Propagated.apply(x, self, n, combine))

    def dense(self) -> Tensor:
        """[N, M] with all its zeros, for tests."""
        return torch.zeros(self.shape).index_put((self.rows(), self.column), self.weight.float(), accumulate=True)

    def csr(self) -> Tensor:
        """As torch's sparse CSR tensor, for what else reads one, such as a truncated decomposition."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(self.start, self.column, self.weight, self.shape)


class _Product(torch.autograd.Function):
    """See the head of this file; nothing is saved but the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, graph: SparseGraph) -> Tensor:
        ctx.graph = graph
        return weighted_sums(graph, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return weighted_sums(ctx.graph.transpose(), gradients[0]), None


class _Propagated(torch.autograd.Function):
    """Layers and their sum in one. The gradient is the same sum along the transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, graph: SparseGraph, n: int, how: str) -> Tensor:
        ctx.graph, ctx.n, ctx.how = graph, n, how
        return sum_of_layers(graph, x, n, how)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return sum_of_layers(ctx.graph.transpose(), gradients[0], ctx.n, ctx.how), None, None, None


def sum_of_layers(graph: SparseGraph, x: Tensor, n: int, how: str) -> Tensor:
    """The layers 0 .. n of x put together, from the inside out: h = x, then h = A h + x once a layer. n = 0 gives x itself."""
    found = x
    for number in reversed(range(n)):
        found = weighted_sums(graph, found)
        if how in ("mean", "sum") or (how == "without_first" and number):
            found += x
    divisor = divisor_of(n, how)
    return found if divisor == 1 else found.div_(divisor)


def divisor_of(n: int, how: str) -> int:
    """What the sum of the layers 0 .. n is divided by."""
    return {"mean": n + 1, "sum": 1, "last": 1, "without_first": max(n, 1)}[how]


def weighted_sums(graph: SparseGraph, x: Tensor) -> Tensor:
    """A x without a gradient, [N, D]. Raises ValueError for a table of another number of rows."""
    if len(x) != graph.shape[1]:
        raise ValueError(f"a table of {len(x)} rows does not fit a graph of {graph.shape[1]} sending nodes")
    if not graph.n_edges:
        return x.new_zeros(graph.shape[0], x.shape[1])
    with torch.no_grad():
        return F.embedding_bag(
            graph.column,
            x.contiguous(),
            graph.start,
            mode="sum",
            per_sample_weights=graph.weight.to(x.dtype),
            include_last_offset=True,
        )


def normalised(row: Tensor, column: Tensor, weight: Tensor, shape: tuple[int, int], how: str) -> Tensor:
    """[E] weights divided as ``SparseGraph.of`` says. Raises ValueError for an unknown way."""
    if how == "none":
        return weight.float()
    if how not in NORMALISE:
        raise ValueError(f"unknown normalisation '{how}'; known: {', '.join(NORMALISE)}")
    received = torch.zeros(shape[0], dtype=torch.float64).index_add_(0, row, weight.double())
    received[received == 0] = 1.0
    if how == "left":
        return (weight / received[row]).float()
    sent = torch.zeros(shape[1], dtype=torch.float64).index_add_(0, column, weight.double())
    sent[sent == 0] = 1.0
    return (weight / (received[row] * sent[column]).sqrt()).float()


def check_combine(how: str) -> None:
    """Raise ValueError for an unknown way."""
    if how not in COMBINE:
        raise ValueError(f"unknown way to combine layers '{how}'; known: {', '.join(COMBINE)}")


def combined(layers: list[Tensor], how: str) -> Tensor:
    """The mean or the sum of tables of one shape, the last of them, or the mean of all but the first. Raises ValueError for an unknown way."""
    check_combine(how)
    if how == "last" or len(layers) == 1:
        return layers[-1]
    if how == "without_first":
        return combined(layers[1:], "mean")
    total = layers[0] + layers[1]
    for layer in layers[2:]:
        total = total + layer
    return total / len(layers) if how == "mean" else total
