"""The graph of all training sessions, held as torch-geometric's data type, and a table of each item's strongest neighbours.

Two items are neighbours where they stand at most ``window`` events apart in a training session, in either order. ``gcegnn`` weighs an edge by
how often that happened, ``hicg_cl`` by in how many sessions. Layers and samplers that read a ``HeteroData`` read this graph too.

torch-geometric is imported when a graph is made, not before: that costs half a second, and models that read a stored table never need it. Pairs are
counted by numpy and mirrored by torch-geometric's ``to_undirected``; all of it by the library's ``coalesce`` takes several times as long
(benchmarks/RESULTS.md, "Graphs as torch-geometric's data types").

Shapes: V = n_items + 1 nodes, E edges, K neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

    from recbench.data.training import TrainingData

#: The type of an edge: from an item, to one that stands near it.
NEAR = ("item", "near", "item")


def item_graph(train: TrainingData, window: int, once_a_session: bool = False) -> HeteroData:
    """The graph of the training events: ``graph["item"].num_nodes`` = V, and under ``graph[NEAR]``

    edge_index [2, E] int64, an ``EdgeIndex`` sorted by its first row and then its second; each edge is there in both directions
    edge_weight [E] int64: how often the two stood that near to each other; an item after itself counts in both directions

    With ``once_a_session`` a session counts once, however often the two meet in it, and no item is its own neighbour.
    """
    from torch_geometric import EdgeIndex
    from torch_geometric.data import HeteroData
    from torch_geometric.utils import to_undirected

    size = train.n_items + 1
    pair, count = np.unique(_pairs(train, window, once_a_session), return_counts=True)
    ends = torch.from_numpy(np.stack([pair // size, pair % size]))
    edge_index, weight = to_undirected(ends, torch.from_numpy(count), num_nodes=size, reduce="add")
    graph = HeteroData()
    graph["item"].num_nodes = size
    graph[NEAR].edge_index = EdgeIndex(edge_index, sparse_size=(size, size), sort_order="row", is_undirected=True)
    graph[NEAR].edge_weight = weight
    return graph


def _pairs(train: TrainingData, window: int, once_a_session: bool) -> np.ndarray:
    """[P] int64: lower id * V + higher id of every two events near each other, or of every two items that are so in a session."""
    session, item, _ = train.flat()
    size = train.n_items + 1
    found = [np.empty(0, dtype=np.int64)]
    for step in range(1, min(window, len(item) - 1) + 1):
        near = session[step:] == session[:-step]
        if once_a_session:
            near &= item[step:] != item[:-step]
        first, second = item[:-step][near].astype(np.int64), item[step:][near].astype(np.int64)
        pair = np.minimum(first, second) * size + np.maximum(first, second)
        found.append(session[:-step][near] * size**2 + pair if once_a_session else pair)
    pairs = np.concatenate(found)
    return np.unique(pairs) % size**2 if once_a_session else pairs


def strongest(graph: HeteroData, n_kept: int, least: int = 1) -> tuple[Tensor, Tensor]:
    """(neighbours [V, K] int64, weights [V, K] int64): of each item the K = ``n_kept`` of largest weight, largest first.

    Among equals the lower id comes first. Edges of a weight below ``least`` are left out. Where an item has fewer neighbours its
    last places are 0 in both.
    """
    edges, size = graph[NEAR], graph["item"].num_nodes
    enough = edges.edge_weight >= least
    source, target = edges.edge_index.as_tensor()[:, enough]
    weight = edges.edge_weight[enough]
    # Edges are sorted by both ends, and a stable sort keeps equals in that order.
    heaviest = weight.max() if len(weight) else 0
    order = (source * (heaviest + 1) + heaviest - weight).argsort(stable=True)
    source, target, weight = source[order], target[order], weight[order]
    n_before = torch.bincount(source, minlength=size).cumsum(0).roll(1)
    n_before[0] = 0
    rank = torch.arange(len(source)) - n_before[source]
    kept = rank < n_kept
    neighbours, weights = torch.zeros(2, size, n_kept, dtype=torch.int64)
    neighbours[source[kept], rank[kept]] = target[kept]
    weights[source[kept], rank[kept]] = weight[kept]
    return neighbours, weights
