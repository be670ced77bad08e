"""Histories cut out of training windows, against loops."""

from __future__ import annotations

import pytest
import torch

from recbench.data.batches import Batch
from recbench.data.samples import samples


@pytest.fixture
def batch():
    items = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [7, 0, 0, 0]])
    targets = torch.tensor([[2, 3, 4, 9], [6, 8, 0, 0], [5, 0, 0, 0]])
    return Batch(items, torch.zeros_like(items), torch.tensor([4, 2, 1]), torch.tensor([10, 11, 12]), targets=targets)


def listed(found):
    rows = zip(found.items.tolist(), found.lengths.tolist(), found.user.tolist(), found.targets.tolist(), strict=True)
    out = []
    for items, length, user, target in rows:
        assert all(items[:length])
        assert not any(items[length:])
        out.append((user, tuple(items[:length]), target))
    return out


def expected(batch, starts):
    return [
        (int(batch.user[b]), tuple(batch.items[b, start : last + 1].tolist()), int(batch.targets[b, last]))
        for b in range(3)
        for last in range(int(batch.lengths[b]))
        for start in starts(last)
    ]


def test_prefixes_and_all_windows(batch):
    assert listed(samples(batch, "prefix")) == expected(batch, lambda last: [0])
    assert listed(samples(batch, "windows")) == expected(batch, lambda last: range(last + 1))


def test_one_window_a_target_and_every_start_equally_often(batch):
    torch.manual_seed(0)
    drawn = [listed(samples(batch, "one_window")) for _ in range(400)]
    every = set(expected(batch, lambda last: range(last + 1)))
    assert {row for rows in drawn for row in rows} == every
    assert all(len(rows) == 7 for rows in drawn)
    longest = [rows[3] for rows in drawn]  # of the four events before target 9
    assert {len(row[1]) for row in longest} == {1, 2, 3, 4}
    for length in range(1, 5):
        assert 60 < sum(len(row[1]) == length for row in longest) < 140


@pytest.mark.parametrize("parts", [1, 3, 50])
def test_groups_hold_the_same_samples_and_no_needless_pads(batch, parts):
    whole = samples(batch, "windows")
    groups = whole.groups(parts)
    assert sorted(row for group in groups for row in listed(group)) == sorted(listed(whole))
    assert all(group.items.shape[1] == group.lengths.max() for group in groups)
