"""The graph of all training sessions against torch-geometric's own utilities and a naive count, and who imports the library."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.utils import degree, is_undirected, scatter, softmax, to_undirected

from recbench.data.training import TrainingData
from recbench.nn.graph.global_graph import GlobalLayer
from recbench.nn.graph.item_graph import NEAR, item_graph, strongest

N_ITEMS = 9


@pytest.fixture(scope="module")
def sessions() -> list[list[int]]:
    rng = np.random.default_rng(3)
    return [rng.integers(1, N_ITEMS + 1, n).tolist() for n in rng.integers(1, 12, 40)]


@pytest.fixture(scope="module")
def train(sessions) -> TrainingData:
    return training(sessions)


def training(sessions) -> TrainingData:
    items = np.array([item for session in sessions for item in session])
    end = np.cumsum([len(session) for session in sessions])
    data = SimpleNamespace(items=items, timestamps=items, behaviours=None, n_items=N_ITEMS, n_users=len(sessions))
    return TrainingData(data, end - [len(session) for session in sessions], end)


def near_pairs(session, window):
    return [(a, b) for i, a in enumerate(session) for b in session[i + 1 : i + 1 + window]]


def edges_of(graph) -> Counter:
    ends = zip(*graph[NEAR].edge_index.tolist(), strict=True)
    return Counter(dict(zip(ends, graph[NEAR].edge_weight.tolist(), strict=True)))


@pytest.mark.parametrize("window", [1, 3, 50])
def test_it_is_what_the_library_makes_of_every_pair_of_events(sessions, train, window):
    pairs = torch.tensor([pair for session in sessions for pair in near_pairs(session, window)]).T
    ones = torch.ones(pairs.shape[1], dtype=torch.int64)
    edge_index, weight = to_undirected(pairs, ones, num_nodes=N_ITEMS + 1, reduce="add")
    graph = item_graph(train, window)
    assert torch.equal(graph[NEAR].edge_index.as_tensor(), edge_index)
    assert torch.equal(graph[NEAR].edge_weight, weight)


@pytest.mark.parametrize("window", [1, 4])
def test_once_a_session_counts_sessions_and_different_items(sessions, train, window):
    met = Counter()
    for session in sessions:
        pairs = {(a, b) for a, b in near_pairs(session, window) if a != b}
        met.update(pairs | {(b, a) for a, b in pairs})
    assert edges_of(item_graph(train, window, once_a_session=True)) == met


def test_it_is_a_valid_undirected_graph_of_the_library(train):
    graph = item_graph(train, 3)
    assert isinstance(graph, HeteroData)
    assert graph.validate()
    assert graph["item"].num_nodes == N_ITEMS + 1
    edge_index = graph[NEAR].edge_index
    assert isinstance(edge_index, EdgeIndex)
    assert edge_index.validate() is edge_index
    assert edge_index.sparse_size() == (N_ITEMS + 1, N_ITEMS + 1)
    assert is_undirected(edge_index.as_tensor(), graph[NEAR].edge_weight)


def test_a_table_with_a_place_for_every_edge_holds_the_degrees(train):
    graph = item_graph(train, 3)
    neighbours, weights = strongest(graph, N_ITEMS + 1)
    ends, weight = graph[NEAR].edge_index.as_tensor()[0], graph[NEAR].edge_weight
    assert torch.equal((neighbours > 0).sum(1), degree(ends, N_ITEMS + 1, dtype=torch.int64))
    assert torch.equal(weights.sum(1), scatter(weight, ends, dim_size=N_ITEMS + 1, reduce="sum"))


@pytest.mark.parametrize(("n_kept", "least"), [(2, 1), (4, 5), (20, 3)])
def test_the_strongest_come_first_and_ties_go_to_the_lower_id(train, n_kept, least):
    graph = item_graph(train, 2)
    neighbours, weights = strongest(graph, n_kept, least)
    edges = edges_of(graph)
    for item in range(N_ITEMS + 1):
        own = [(b, n) for (a, b), n in edges.items() if a == item and n >= least]
        expected = sorted(own, key=lambda pair: (-pair[1], pair[0]))[:n_kept]
        found = [(b, n) for b, n in zip(neighbours[item].tolist(), weights[item].tolist(), strict=True) if n]
        assert found == expected


@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], []])
def test_sessions_without_neighbours_make_a_graph_without_edges(lengths):
    graph = item_graph(training([[1 + i] * n for i, n in enumerate(lengths)] or [[2]]), 3)
    assert graph[NEAR].edge_index.shape == (2, 0)
    assert not strongest(graph, 3)[0].any()


def test_a_layer_over_the_table_is_the_librarys_attention_over_the_edges(train):
    """GCE-GNN's layer, with the softmax and the sum over a list of edges as torch-geometric has them."""
    graph = item_graph(train, 3)
    edges = graph[NEAR]
    neighbours, weights = strongest(graph, N_ITEMS)
    torch.manual_seed(0)
    layer, vectors, wish = GlobalLayer(5, 0.0), torch.randn(N_ITEMS + 1, 5), torch.randn(N_ITEMS + 1, 5)
    ours = layer(vectors, vectors[neighbours], weights.float(), wish)
    node, other = edges.edge_index.as_tensor()
    heard = layer.match(wish[node] * vectors[other]) + layer.from_weight(edges.edge_weight[:, None].float())
    share = softmax(layer.query(torch.nn.functional.leaky_relu(heard, 0.2)), node, num_nodes=N_ITEMS + 1)
    mixed = scatter(share * vectors[other], node, dim_size=N_ITEMS + 1, reduce="sum")
    theirs = torch.relu(layer.combine(torch.cat([vectors, mixed], 1)))
    torch.testing.assert_close(ours, theirs)
