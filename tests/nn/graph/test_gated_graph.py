"""The gated step against its equations, written out gate by gate on one small graph."""

from __future__ import annotations

import pytest
import torch

from recbench.core.errors import UserError
from recbench.nn.graph.gated_graph import GatedGraph, SoftAttention, check_edges, uniform_start
from recbench.nn.graph.session_graph import sparse_graphs

D = 4


@pytest.fixture
def session():
    """Events 5 3 5 2, padded by one: the nodes are 2 3 5, by number 0 1 2."""
    items = torch.tensor([[5, 3, 5, 2, 0]])
    graphs = sparse_graphs(items, torch.tensor([4]), 9)
    assert graphs.item.tolist() == [2, 3, 5]
    torch.manual_seed(0)
    return graphs, torch.randn(3, D)


def test_the_step_is_the_hand_written_gates(session):
    graphs, h = session
    torch.manual_seed(1)
    step = GatedGraph(D, 1).step
    uniform_start(step, D)
    got = step(h, graphs)
    w, c = step.neighbours.weight.chunk(2), step.neighbours.bias.chunk(2)
    u, v = step.cell.weight_ih.chunk(3), step.cell.weight_hh.chunk(3)
    bu, bv = step.cell.bias_ih.chunk(3), step.cell.bias_hh.chunk(3)
    #: node -> (nodes before it, nodes after it), from the walk 2 1 2 0
    near = {2: ([1], [1, 0]), 1: ([2], [2]), 0: ([2], [])}
    for node, sides in near.items():
        m = []
        for side, nodes in enumerate(sides):
            heard = [w[side] @ h[i] + c[side] for i in nodes]
            m.append(torch.stack(heard).mean(0) if heard else torch.zeros(D))
        m = torch.cat(m) + step.bias
        own = h[node]
        r = torch.sigmoid(u[0] @ m + bu[0] + v[0] @ own + bv[0])
        z = torch.sigmoid(u[1] @ m + bu[1] + v[1] @ own + bv[1])
        n = torch.tanh(u[2] @ m + bu[2] + r * (v[2] @ own + bv[2]))
        torch.testing.assert_close(got[node], n + z * (own - n))


@pytest.mark.parametrize("normalised", [False, True])
def test_the_attention_runs_over_events_so_that_repeats_count_twice(session, normalised):
    graphs, h = session
    torch.manual_seed(1)
    attention = SoftAttention(D, normalised)
    last, events = h[:1], h[[2, 1, 2, 0]]
    real = torch.tensor([[True, True, True, True, False]])
    a = torch.stack(
        [attention.weight(torch.sigmoid(attention.from_last(last[0]) + attention.from_node(g))) for g in events]
    )
    a = a.softmax(0) if normalised else a
    wanted = attention.combine(torch.cat([(a * events).sum(0), last[0]]))
    torch.testing.assert_close(attention(graphs.at_events(h), last, real)[0], wanted)


def test_the_start_is_uniform_within_the_published_bound():
    model = torch.nn.Sequential(torch.nn.Embedding(500, 16, padding_idx=0), torch.nn.GRUCell(32, 16))
    uniform_start(model, 16)
    assert all(p.abs().max() <= 0.25 and p.abs().max() > 0.2 for p in model.parameters())
    assert not model[0].weight[0].any()


def test_unknown_edges_are_refused():
    with pytest.raises(UserError, match="edges 'counted'"):
        check_edges("counted")
