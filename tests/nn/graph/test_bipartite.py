"""The product along a graph against the dense one and against torch-geometric, and views of the graph."""

import numpy as np
import pytest
import torch
from torch_geometric.nn.models import LightGCN

from recbench.nn.graph.bipartite import Bipartite
from recbench.nn.graph.sparse_graph import COMBINE, SparseGraph, combined

U, ITEMS = 50, 40


@pytest.fixture
def graph():
    generator = torch.Generator().manual_seed(0)
    user = torch.randint(1, U, (300,), generator=generator)  # user 0 has nothing
    item = torch.randint(1, ITEMS + 1, (300,), generator=generator)
    return Bipartite.of_pairs(user, item, U, ITEMS)


def dense_of(graph):
    matrix = torch.zeros(graph.shape, dtype=torch.float64)
    matrix[graph.rows(), graph.column] = 1
    degree = matrix.sum(1).clamp(min=1)
    return matrix / (degree[:, None] * degree).sqrt()


def test_layers_equal_the_dense_product(graph):
    x, dense = torch.randn(graph.shape[0], 6, dtype=torch.float64), dense_of(graph)
    expected = (x + dense @ x + dense @ dense @ x) / 3
    torch.testing.assert_close(graph.propagate(x, 2), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(graph.propagate(x, 2)[0], x[0] / 3)  # without edges: the share of its own vector
    torch.testing.assert_close(graph.propagate(x, 2, "last"), dense @ dense @ x, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(graph.dense(), dense.float())


def test_the_backward_pass_is_exact(graph):
    x = torch.randn(graph.shape[0], 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: graph.propagate(x, 3, "sum"), x)
    ends = torch.randint(0, 9, (2, 40), generator=torch.Generator().manual_seed(1))
    other = SparseGraph.of(ends[0], ends[1] % 7, (9, 7), torch.rand(40), normalise="left")
    y = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(other.product, y)
    has = other.start.diff() > 0
    torch.testing.assert_close(other.dense().sum(1)[has], torch.ones(int(has.sum())))


def test_forward_and_gradient_are_those_of_torch_geometric(graph):
    theirs = LightGCN(graph.shape[0], 8, num_layers=3)
    x = theirs.embedding.weight.detach().clone().requires_grad_()
    found, expected = graph.propagate(x, 3), theirs.get_embedding(graph.edge_index.as_tensor())
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    weight = torch.randn_like(found)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(x.grad, theirs.embedding.weight.grad, atol=1e-6, rtol=1e-5)
    graph.edge_index.validate()


def test_a_view_lacks_pairs_in_both_directions(graph):
    view = graph.dropped(0.4, torch.Generator().manual_seed(2))
    matrix = view.dense()
    assert torch.equal(matrix, matrix.T)
    assert 0.45 < view.n_pairs / graph.n_pairs < 0.75
    kept = matrix > 0
    torch.testing.assert_close(matrix[kept], graph.dense()[kept])
    again = view.dropped(0.5, torch.Generator().manual_seed(3), rescale=True)  # a view of a view
    torch.testing.assert_close(again.dense(), again.dense().T)
    torch.testing.assert_close(again.dense()[again.dense() > 0], 2 * matrix[again.dense() > 0])
    with pytest.raises(ValueError, match="share of 1 of the edges"):
        graph.dropped(1.0)


def test_a_renormalised_view_has_the_weights_of_its_own_degrees(graph):
    view = graph.sampled(120, torch.Generator().manual_seed(4))
    assert view.n_pairs == 120
    torch.testing.assert_close(view.dense(), dense_of(view).float())


def test_pairs_of_small_degrees_are_drawn_more_often(graph):
    generator = torch.Generator().manual_seed(5)
    weight, often = graph.weight[: graph.n_pairs], torch.zeros(graph.n_pairs)
    for _ in range(250):
        view = graph.sampled(60, generator)
        often += torch.from_numpy(
            np.isin(graph.users * 100 + graph.items, view.users * 100 + view.items).astype(np.float32)
        )
    assert torch.corrcoef(torch.stack([weight, often]))[0, 1] > 0.7


def test_weights_with_a_gradient_and_tables_that_do_not_fit_are_refused(graph):
    with pytest.raises(ValueError, match="no gradient"):
        graph.with_weight(torch.ones(graph.n_edges, requires_grad=True))
    with pytest.raises(ValueError, match="a table of 3 rows does not fit"):
        graph.product(torch.ones(3, 2))


@pytest.mark.parametrize("combine", COMBINE)
@pytest.mark.parametrize("n", [0, 1, 3])
def test_propagation_and_its_gradient_are_those_of_the_layers_added_up(graph, combine, n):
    x = torch.randn(graph.shape[0], 3, requires_grad=True)
    before = x.detach().clone()
    wanted = combined(graph.layers(x, n), combine)
    found = graph.propagate(x, n, combine)
    gradient = torch.randn_like(found)
    torch.testing.assert_close(found, wanted)
    assert torch.equal(x.detach(), before)
    torch.testing.assert_close(torch.autograd.grad(found, x, gradient)[0], torch.autograd.grad(wanted, x, gradient)[0])
