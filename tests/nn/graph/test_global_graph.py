"""The graph of all training sessions: what is counted, how ties fall, and that nothing but training events is in it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from recbench.data.training import TrainingData
from recbench.nn.graph import global_graph
from recbench.nn.graph.global_graph import GlobalGraph, neighbour_table


def counted(sessions, window):
    """{item: Counter of its neighbours}, pair by pair."""
    found = {}
    for session in sessions:
        for i, item in enumerate(session):
            for other in session[max(0, i - window) : i] + session[i + 1 : i + 1 + window]:
                found.setdefault(item, Counter())[other] += 1
    return found


def expect(sessions, window, k):
    return {
        item: sorted(near.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
        for item, near in counted(sessions, window).items()
    }


def as_lists(table):
    neighbours, weights = table
    return {
        item: [(int(n), int(w)) for n, w in zip(neighbours[item], weights[item], strict=True) if n]
        for item in range(len(neighbours))
        if neighbours[item].any()
    }


def sessions_of(data, start, end):
    return [data.items[a:b].tolist() for a, b in zip(start, end, strict=True)]


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("k", [2, 12])
def test_the_table_holds_the_heaviest_neighbours_and_ties_go_to_the_lower_id(tiny_data, tiny_split, window, k):
    train = TrainingData.of(tiny_data, tiny_split)
    table = neighbour_table(train, window, k)
    assert as_lists(table) == expect(sessions_of(tiny_data, train.start, train.end), window, k)


def test_no_validation_or_test_event_changes_it(tiny_data, tiny_split, training_with):
    train = TrainingData.of(tiny_data, tiny_split)
    inside = np.zeros(len(tiny_data.items), dtype=bool)
    for a, b in zip(train.start, train.end, strict=True):
        inside[a:b] = True
    assert not inside.all()
    other = np.where(inside, tiny_data.items, tiny_data.n_items + 1 - tiny_data.items)
    changed = training_with(other)
    for mine, same in zip(neighbour_table(train, 3, 12), neighbour_table(changed, 3, 12), strict=True):
        assert torch.equal(mine, same)
    # The same change inside the training part would have been seen.
    inverted = training_with(np.where(inside, tiny_data.n_items + 1 - tiny_data.items, tiny_data.items))
    assert not torch.equal(neighbour_table(train, 3, 12)[0], neighbour_table(inverted, 3, 12)[0])


@pytest.fixture
def training_with(tiny_data, tiny_split):
    """training_with(items) -> the training part of the tiny data with other items."""
    from types import SimpleNamespace

    def make(items):
        data = SimpleNamespace(
            items=items, timestamps=tiny_data.timestamps, n_items=tiny_data.n_items, n_users=tiny_data.n_users
        )
        return TrainingData(data, tiny_split.train_start, tiny_split.train_end)

    return make


@pytest.mark.parametrize("hops", [1, 2])
def test_states_do_not_depend_on_the_size_of_a_piece(tiny_data, tiny_split, monkeypatch, hops):
    torch.manual_seed(0)
    graph = GlobalGraph(tiny_data.n_items, 8, hops, 3, 3, 0.0, TrainingData.of(tiny_data, tiny_split))
    table = torch.nn.Embedding(tiny_data.n_items + 1, 8, padding_idx=0)
    items, session, wishes = torch.randint(1, 61, (20,)), torch.arange(20) // 4, torch.randn(5, 8)
    found, gradients = [], []
    for rows in (10**6, 3**hops * 7):
        monkeypatch.setattr(global_graph, "ROWS_AT_ONCE", rows)
        states = graph(items, session, wishes, table)
        found.append(states)
        gradients.append(torch.autograd.grad(states.sum(), [table.weight, *graph.parameters()]))
    torch.testing.assert_close(*found)
    for whole, pieces in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, pieces, atol=1e-5, rtol=1e-4)


def test_an_item_without_neighbours_hears_nothing_but_itself():
    graph = GlobalGraph(5, 4, 2, 3, 3, 0.0, None)
    table = torch.nn.Embedding(6, 4, padding_idx=0)
    states = graph(torch.tensor([1, 5]), torch.tensor([0, 1]), torch.randn(2, 4), table)
    own = table(torch.tensor([1, 5]))
    for layer in graph.layers:
        own = torch.relu(layer.combine(torch.cat([own, torch.zeros_like(own)], dim=1)))
    torch.testing.assert_close(states, own)
