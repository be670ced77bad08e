"""Typed session graphs against a naive reading of one session at a time."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.nn import RGCNConv

from recbench.nn.graph.behaviour_graph import RelationStep, behaviour_graph, last_of_same_kind, n_relations
from recbench.nn.graph.session_graph import sparse_graphs


def sessions(n_kinds, rows=20, length=12, n_items=6):
    """Random sessions with many repeats: items, kinds, mask [B, L]."""
    g = torch.Generator().manual_seed(n_kinds)
    lengths = torch.randint(1, length + 1, (rows,), generator=g)
    mask = torch.arange(length) < lengths[:, None]
    items = torch.randint(1, n_items + 1, (rows, length), generator=g) * mask
    return items, torch.randint(0, n_kinds, (rows, length), generator=g) * mask, mask


def naive_edges(items, kinds, n_kinds):
    """Counter of (row, item, item, relation) over sessions given as lists."""
    found = Counter()
    half = n_relations(n_kinds) // 2
    for row, (session, behaviours) in enumerate(zip(items, kinds, strict=True)):
        for t in range(1, len(session)):
            edges = [(t - 1, behaviours[t - 1] * n_kinds + behaviours[t])]
            before = [q for q in range(t) if behaviours[q] == behaviours[t]]
            if n_kinds > 1 and before and before[-1] != t - 1:
                edges.append((before[-1], n_kinds * n_kinds + behaviours[t]))
            for q, relation in edges:
                found[row, session[q], session[t], relation] += 1
                found[row, session[t], session[q], relation + half] += 1
    return found


@pytest.mark.parametrize("n_kinds", [1, 2, 3])
def test_edges_are_those_of_a_naive_reading(n_kinds):
    items, kinds, mask = sessions(n_kinds)
    graph = behaviour_graph(items, kinds, mask, n_kinds)
    row_of = torch.zeros(len(graph.item), dtype=torch.int64)
    row_of[graph.alias[mask]] = torch.arange(len(items))[:, None].expand_as(items)[mask]
    relation = graph.edge_type
    ends = zip(
        row_of[graph.edge_index[0]].tolist(),
        graph.item[graph.edge_index[0]].tolist(),
        graph.item[graph.edge_index[1]].tolist(),
        relation.tolist(),
        strict=True,
    )
    assert (row_of[graph.edge_index[0]] == row_of[graph.edge_index[1]]).all()
    ours = Counter(ends)
    lists = [
        [v for v, real in zip(*pair, strict=True) if real] for pair in zip(items.tolist(), mask.tolist(), strict=True)
    ]
    types = [
        [v for v, real in zip(*pair, strict=True) if real] for pair in zip(kinds.tolist(), mask.tolist(), strict=True)
    ]
    assert ours == naive_edges(lists, types, n_kinds)
    # Every real position stands on the node of its item, and every node is some row's item once.
    assert torch.equal(graph.item[graph.alias[mask]], items[mask])
    assert len(graph.item) == sum(len(set(session)) for session in lists)
    # The weights of the edges into a node by one relation sum to one.
    meeting = graph.edge_index[1] * n_relations(n_kinds) + relation
    sums = torch.zeros(int(meeting.max()) + 1).index_add(0, meeting, graph.edge_weight)
    torch.testing.assert_close(sums[meeting.unique()], torch.ones(len(meeting.unique())))


def test_the_last_of_the_same_kind():
    kinds = torch.tensor([[0, 1, 0, 0, 1, 1]])
    mask = torch.tensor([[True] * 5 + [False]])
    assert last_of_same_kind(kinds, mask, 2).tolist() == [[-1, -1, 0, 2, 1, -1]]


def test_with_one_kind_the_messages_are_those_of_a_graph_without_types():
    items, kinds, mask = sessions(1)
    graph = behaviour_graph(items, kinds, mask, 1)
    plain = sparse_graphs(items, mask.sum(1), 6, count_edges=True)
    torch.manual_seed(0)
    step, table = RelationStep(5, 1), torch.randn(7, 5)
    into, out_of = step.relations
    expected = plain.from_before(table[plain.item]) @ into + plain.from_after(table[plain.item]) @ out_of
    states = table[graph.item]
    torch.testing.assert_close(step.messages(states, graph)[graph.alias[mask]], expected[plain.alias[mask]])
    moved = step.cell(expected, table[plain.item])
    torch.testing.assert_close(step(states, graph)[graph.alias[mask]], moved[plain.alias[mask]])


def test_sessions_of_one_event_have_no_edges():
    items = torch.tensor([[3], [4]])
    graph = behaviour_graph(items, torch.zeros_like(items), torch.ones_like(items, dtype=torch.bool), 2)
    assert len(graph.edge_index[0]) == 0
    states = torch.randn(2, 4)
    assert torch.equal(RelationStep(4, 2).messages(states, graph), torch.zeros(2, 4))


@pytest.mark.parametrize("n_kinds", [1, 2, 3])
def test_it_is_a_graph_of_the_library_and_its_relational_convolution_sends_the_same(n_kinds):
    """A sum over relations of means, without a root weight, is the relational convolution of Schlichtkrull et al. (2018)."""
    graph = behaviour_graph(*sessions(n_kinds), n_kinds)
    assert isinstance(graph, Data)
    assert graph.validate()
    torch.manual_seed(0)
    step, states = RelationStep(5, n_kinds), torch.randn(len(graph.item), 5, requires_grad=True)
    layer = RGCNConv(5, 5, n_relations(n_kinds), aggr="mean", root_weight=False, bias=False)
    layer.weight.data.copy_(step.relations.data)
    ours, theirs = step.messages(states, graph), layer(states, graph.edge_index, graph.edge_type)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    (own,) = torch.autograd.grad((ours * weights).sum(), states)
    (other,) = torch.autograd.grad((theirs * weights).sum(), states)
    torch.testing.assert_close(own, other)
