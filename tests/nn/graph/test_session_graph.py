"""Both forms of session graphs against a graph walked session by session, and that pads, order and company change nothing."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbench.nn.graph.session_graph import BOTH, IN, NO_EDGE, OUT, SELF, dense_graphs, first_events, sparse_graphs

N_ITEMS = 6
SESSIONS = st.lists(st.lists(st.integers(1, N_ITEMS), min_size=1, max_size=9), min_size=1, max_size=5)


def padded(sessions, extra=0):
    items = torch.zeros(len(sessions), max(map(len, sessions)) + extra, dtype=torch.int64)
    for row, session in zip(items, sessions, strict=True):
        row[: len(session)] = torch.tensor(session)
    return items, torch.tensor([len(session) for session in sessions])


def walked(session):
    """How often each pair (item, next item) was walked."""
    return Counter(pairwise(session))


def mean_before(session, values, item, weight):
    """Mean of the values of the items before an item, each weighted, or None."""
    before = [(values[source], weight(n)) for (source, target), n in walked(session).items() if target == item]
    total = sum(w for _, w in before)
    return sum(v * w for v, w in before) / total if before else 0.0


@pytest.mark.parametrize("count_edges", [False, True])
@settings(max_examples=60, deadline=None)
@given(sessions=SESSIONS)
def test_both_forms_hold_the_graph_that_a_walk_finds(sessions, count_edges):
    items, lengths = padded(sessions, extra=2)
    dense = dense_graphs(items, lengths, count_edges)
    sparse = sparse_graphs(items, lengths, N_ITEMS, count_edges)
    for b, session in enumerate(sessions):
        wanted = {pair: n if count_edges else 1 for pair, n in walked(session).items()}
        slots = {int(items[b, p]): p for p in dense.is_node[b].nonzero()[:, 0].tolist()}
        assert slots == {item: session.index(item) for item in session}
        assert [int(items[b, p]) for p in dense.alias[b, : len(session)]] == session
        assert dense.visits[b].sum() == len(session)
        found = {
            (int(items[b, i]), int(items[b, j])): int(dense.links[b, i, j])
            for i, j in dense.links[b].nonzero().tolist()
        }
        assert found == wanted
        own = (sparse.session == b).nonzero()[:, 0].tolist()
        assert sorted(sparse.item[own].tolist()) == sorted(set(session))
        assert sparse.item[sparse.alias[b, : len(session)]].tolist() == session
        edges = zip(*sparse.edge_index.tolist(), sparse.weight.tolist(), strict=True)
        assert {(int(sparse.item[i]), int(sparse.item[j])): int(w) for i, j, w in edges if i in own} == wanted


@pytest.mark.parametrize("count_edges", [False, True])
@settings(max_examples=40, deadline=None)
@given(sessions=SESSIONS)
def test_the_means_over_neighbours_agree(sessions, count_edges):
    items, lengths = padded(sessions)
    dense = dense_graphs(items, lengths, count_edges)
    sparse = sparse_graphs(items, lengths, N_ITEMS, count_edges)
    values = torch.rand(N_ITEMS + 1, 3, generator=torch.Generator().manual_seed(1))
    in_slots, in_list = values[items] * dense.is_node[:, :, None], values[sparse.item]
    for way in ("from_before", "from_after"):
        slots = dense.at_events(getattr(dense, way)(in_slots))
        nodes = getattr(sparse, way)(in_list)[sparse.alias]
        for b, session in enumerate(sessions):
            torch.testing.assert_close(slots[b, : len(session)], nodes[b, : len(session)])
            seen = session if way == "from_before" else session[::-1]
            for p, item in enumerate(session):
                wanted = mean_before(seen, values, item, (lambda n: n) if count_edges else (lambda n: 1))
                torch.testing.assert_close(slots[b, p], torch.as_tensor(wanted).expand(3), atol=1e-6, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(sessions=SESSIONS)
def test_edge_types_say_who_followed_whom(sessions):
    items, lengths = padded(sessions, extra=1)
    dense = dense_graphs(items, lengths)
    types = dense.edge_types()
    for b, session in enumerate(sessions):
        pairs = walked(session)
        slots = dense.is_node[b].nonzero()[:, 0].tolist()
        for i in range(items.shape[1]):
            for j in range(items.shape[1]):
                wanted = NO_EDGE
                if i in slots and j in slots:
                    a, c = int(items[b, i]), int(items[b, j])
                    wanted = {(True, True): BOTH, (True, False): OUT, (False, True): IN}.get(
                        ((a, c) in pairs, (c, a) in pairs), NO_EDGE
                    )
                    wanted = SELF if a == c else wanted
                assert types[b, i, j] == wanted


def test_first_events_by_hand():
    assert first_events(torch.tensor([[3, 1, 3, 1, 3], [2, 2, 5, 0, 0]])).tolist() == [[0, 1, 0, 1, 0], [0, 0, 2, 3, 3]]


def test_a_batch_without_any_edge():
    items, lengths = padded([[4], [2]])
    assert not dense_graphs(items, lengths).links.any()
    assert sparse_graphs(items, lengths, N_ITEMS).edge_index.shape == (2, 0)
