"""Histories with the same next item, against a search through all training windows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from recbench.data.batches import WindowDataset, training_windows
from recbench.data.store import PreparedData
from recbench.objectives.contrastive import prefixes as module
from recbench.objectives.contrastive.same_target import SameTarget


@pytest.fixture(scope="module")
def index(dataset):
    return SameTarget(dataset)


def occurrences(dataset):
    """[(user, items of the history, next item)] of every training position, by a loop."""
    found, data, w = [], dataset.data, dataset.windows
    for user, start, length in zip(w.user, w.start, w.length, strict=True):
        for n in range(1, length + 1):
            found.append((int(user), tuple(data.items[start : start + n].tolist()), int(data.items[start + n])))
    return found


def drawn(index, windows):
    batch = index.histories(index.draw(torch.as_tensor(windows)))
    for row, n, user in zip(batch.items.tolist(), batch.lengths.tolist(), batch.user.tolist(), strict=True):
        yield user, tuple(row[:n])


def test_what_is_drawn_has_the_target_of_its_row_and_is_another_history(index, dataset):
    windows = np.arange(len(dataset))
    own, other = dataset[windows], index.histories(index.draw(torch.from_numpy(windows)))
    last = torch.arange(len(windows))
    targets = own.targets[last, own.lengths - 1]
    assert torch.equal(other.targets[last, other.lengths - 1], targets)
    count = Counter(target for _, _, target in occurrences(dataset))
    same = [
        bool(a == b and torch.equal(x[:a], y[:b]) and u == v)
        for x, y, a, b, u, v in zip(
            own.items, other.items, own.lengths, other.lengths, own.user, other.user, strict=True
        )
    ]
    assert same == [count[int(target)] == 1 for target in targets]


def test_every_other_occurrence_comes_and_as_often(index, dataset):
    every = occurrences(dataset)
    count = Counter(target for _, _, target in every)
    window = next(w for w in range(len(dataset)) if count[int(dataset[np.array([w])].targets[0, -1])] == 4)
    (own,) = zip(*_row(dataset, window), strict=True)
    target = int(dataset[np.array([window])].targets[0, -1])
    others = [(user, items) for user, items, t in every if t == target and (user, items) != own]
    torch.manual_seed(2)
    found = Counter(drawn(index, np.full(3000, window)))
    assert set(found) == set(others)
    assert all(abs(n / 3000 - 1 / 3) < 0.05 for n in found.values())


def _row(dataset, window):
    batch = dataset[np.array([window])]
    return batch.user.tolist(), [tuple(batch.items[0].tolist())]


def test_no_history_reaches_beyond_the_training_part(index, dataset, tiny_split, monkeypatch):
    read = []
    gather = module.gather
    monkeypatch.setattr(module, "gather", lambda *given, **more: (read.append(given), gather(*given, **more))[1])
    for seed in range(5):
        torch.manual_seed(seed)
        index.histories(index.draw(torch.arange(len(dataset))))
    for _, user, start, length in read:
        assert (start >= tiny_split.train_start[user]).all()
        # The event behind the history is its target, which is a training event as well.
        assert (start + length < tiny_split.train_end[user]).all()
    assert len(read) == 5


def test_without_another_occurrence_a_row_gets_its_own_history(tmp_path):
    data = PreparedData.from_arrays(tmp_path, np.array([1, 2, 3, 1, 3, 2, 4, 1]), np.array([0, 4, 8]), np.arange(8))
    dataset = WindowDataset(data, training_windows(np.array([0, 4]), np.array([4, 7]), 10))
    index = SameTarget(dataset)
    # User 0 ends before item 1, which stands behind the training part of user 1; that one ends before item 4.
    assert list(drawn(index, [0, 1])) == [(0, (1, 2, 3)), (1, (3, 2))]


def test_a_history_may_come_from_the_same_user_where_an_item_is_repeated(tmp_path):
    data = PreparedData.from_arrays(tmp_path, np.array([1, 2, 3, 2]), np.array([0, 4]), np.arange(4))
    dataset = WindowDataset(data, training_windows(np.array([0]), np.array([4]), 10))
    assert list(drawn(SameTarget(dataset), [0])) == [(0, (1,))]


def test_histories_come_from_every_window_of_a_user(tmp_path):
    items = np.array([1, 2, 3, 5, 4, 6, 5, 8, 7, 5])
    data = PreparedData.from_arrays(tmp_path, items, np.array([0, 10]), np.arange(10))
    dataset = WindowDataset(data, training_windows(np.array([0]), np.array([10]), 3))
    assert sorted(dataset.windows.length) == [3, 3, 3]
    torch.manual_seed(0)
    found = {history for _ in range(50) for _, history in drawn(SameTarget(dataset), np.arange(3))}
    assert found == {(1, 2, 3), (5, 4, 6), (5, 8, 7)}


def test_the_draw_is_torchs_own_so_a_seed_repeats_it(index, dataset):
    windows = torch.arange(len(dataset))
    torch.manual_seed(9)
    first = index.draw(windows)
    torch.manual_seed(9)
    assert np.array_equal(index.draw(windows), first)
    assert not np.array_equal(index.draw(windows), first)


def test_lengths_are_those_of_the_histories(index, dataset):
    numbers = np.arange(dataset.windows.n_targets)
    assert index.lengths(numbers).tolist() == index.histories(numbers).lengths.tolist()
    every = [items for _, items, _ in occurrences(dataset)]
    assert [len(items) for items in every] == index.lengths(numbers).tolist()
