"""Which items count as occurring together, and what the contrastive loss makes of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from recbench.data.prepared import PreparedData
from recbench.data.training import TrainingData
from recbench.nn.graph.item_cooccurrence import CooccurrenceContrast, cooccurrence_table


@pytest.fixture
def training(tmp_path):
    """training(sessions, ends) -> TrainingData of which only the first ``ends[u]`` events of each session are training."""

    def build(sessions, n_items, ends=None):
        offsets = np.cumsum([0, *map(len, sessions)])
        data = PreparedData.from_arrays(tmp_path, np.concatenate(sessions), offsets, n_items=n_items)
        stop = offsets[1:] if ends is None else offsets[:-1] + np.asarray(ends)
        return TrainingData(data, offsets[:-1], stop)

    return build


def naive(sessions, window, n_kept, min_sessions):
    """{item: its neighbours in order}."""
    counts = Counter()
    for session in sessions:
        pairs = {(a, b) for i, a in enumerate(session) for b in session[i + 1 : i + 1 + window] if a != b}
        counts.update(pairs | {(b, a) for a, b in pairs})
    rows = {}
    for (a, b), n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0][1])):
        if n >= min_sessions and len(rows.setdefault(a, [])) < n_kept:
            rows[a].append(b)
    return {a: row for a, row in rows.items() if row}


@pytest.mark.parametrize(("window", "n_kept", "min_sessions"), [(1, 3, 1), (3, 2, 2), (3, 20, 1), (50, 4, 3)])
def test_the_table_is_that_of_a_naive_count(training, window, n_kept, min_sessions):
    rng = np.random.default_rng(0)
    sessions = [rng.integers(1, 9, size=n) for n in rng.integers(1, 12, size=30)]
    table = cooccurrence_table(training(sessions, 9), window, n_kept, min_sessions)
    assert table.shape == (10, n_kept)
    ours = {item: [b for b in row if b] for item, row in enumerate(table.tolist()) if any(row)}
    assert ours == naive([s.tolist() for s in sessions], window, n_kept, min_sessions)


def test_no_transition_of_validation_or_test_is_in_the_table(training):
    # 7, 8 and 9 come only after the end of training, and 3 only then stands beside 1.
    sessions, ends = [np.array([1, 2, 7, 3]), np.array([2, 1, 8, 9]), np.array([1, 2, 3, 1])], [2, 2, 2]
    table = cooccurrence_table(training(sessions, 9, ends), 3, 5, 1)
    assert {(a, b) for a, row in enumerate(table.tolist()) for b in row if b} == {(1, 2), (2, 1)}


def test_the_table_of_a_split_never_changes_with_its_later_events(tiny_data, tiny_split, training):
    train = TrainingData.of(tiny_data, tiny_split)
    table = cooccurrence_table(train, 3, 5, 1)
    items = np.array(tiny_data.items)
    later = np.ones(len(items), bool)
    for start, end in zip(train.start, train.end, strict=True):
        later[start:end] = False
    assert later.any()
    items[later] = tiny_data.n_items + 1 - items[later]
    sessions = np.split(items, tiny_data.offsets[1:-1])
    other = training(sessions, tiny_data.n_items, train.end - train.start)
    assert torch.equal(cooccurrence_table(other, 3, 5, 1), table)
    whole = TrainingData(tiny_data, tiny_data.offsets[:-1], tiny_data.offsets[1:])
    assert not torch.equal(cooccurrence_table(whole, 3, 5, 1), table)


def test_two_sessions_are_asked_of_a_pair(training):
    train = training([np.array([1, 2, 1, 2]), np.array([3, 4]), np.array([4, 3])], 4)
    assert cooccurrence_table(train, 3, 2, 2).tolist() == [[0, 0], [0, 0], [0, 0], [4, 0], [3, 0]]


def test_the_loss_is_info_nce_without_false_negatives():
    # 1 and 2 are each other's positives, 3 has 4; so 1 and 2 are no negatives of each other, and all are 3's.
    table = torch.tensor([[0], [2], [1], [4], [0]])
    vectors = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(vectors, dim=1)
    s = (unit @ unit.T) / 0.5
    of_1 = -torch.log_softmax(torch.stack([s[1, 2], s[1, 4]]), 0)[0]
    of_2 = -torch.log_softmax(torch.stack([s[2, 1], s[2, 4]]), 0)[0]
    of_3 = -torch.log_softmax(torch.stack([s[3, 4], s[3, 2], s[3, 1]]), 0)[0]
    loss = CooccurrenceContrast(table, 0.5)(torch.tensor([[1, 2, 3], [3, 4, 0]]), vectors)
    torch.testing.assert_close(loss, (of_1 + of_2 + of_3) / 3)


def test_without_a_neighbour_there_is_nothing_to_contrast():
    vectors = torch.randn(3, 4, requires_grad=True)
    loss = CooccurrenceContrast(torch.zeros(3, 2, dtype=torch.int64), 0.1)(torch.tensor([[1, 2]]), vectors)
    loss.backward()
    assert loss == 0.0
    assert vectors.grad.abs().sum() == 0.0
