"""Windows, the plan of an epoch, and evaluation batches: nothing is lost, nothing doubled, nothing of the future read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbench.data.batches import (
    WindowDataset,
    Windows,
    evaluation_batches,
    gather,
    prefixes,
    training_windows,
)
from recbench.data.epoch_sampler import POOL_BATCHES, EpochSampler
from recbench.data.store import PreparedData

lengths_of_users = st.lists(st.integers(0, 40), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Item 1, 2, 3 ... in file order, so that an item says where it stands; users of 5, 0, 1, 23 and 8 events."""
    lengths = [5, 0, 1, 23, 8]
    n = sum(lengths)
    return PreparedData.from_arrays(
        tmp_path_factory.mktemp("data"),
        np.arange(1, n + 1),
        np.cumsum([0, *lengths]),
        np.arange(1, n + 1) * 10,
        behaviours=np.arange(n) % 3 + 1,
    )


def ranges(lengths, gap=2):
    """Training ranges of users whose events lie one after the other, each followed by ``gap`` held-out events."""
    start = np.cumsum([0, *[length + gap for length in lengths]])[:-1]
    return start, start + np.array(lengths)


def windows_of(lengths, max_length=10):
    return training_windows(*ranges(lengths), max_length)


@given(lengths_of_users, st.integers(1, 12))
def test_every_event_but_the_first_is_a_target_exactly_once(lengths, max_length):
    start, end = ranges(lengths)
    windows = training_windows(start, end, max_length)
    targets = [s + 1 + i for s, n in zip(windows.start, windows.length, strict=True) for i in range(n)]
    assert sorted(targets) == [p for s, e in zip(start, end, strict=True) for p in range(s + 1, e)]
    assert windows.n_targets == len(targets)


@given(lengths_of_users, st.integers(1, 12))
def test_windows_stay_within_their_user_and_the_maximum(lengths, max_length):
    start, end = ranges(lengths)
    windows = training_windows(start, end, max_length)
    assert ((windows.length >= 1) & (windows.length <= max_length)).all()
    assert (windows.start >= start[windows.user]).all()
    # The last target is a training event: what is held out begins at ``end``.
    assert (windows.start + windows.length < end[windows.user]).all()


def test_the_newest_window_is_the_full_one():
    windows = training_windows(np.array([0]), np.array([12]), 4)  # 11 targets: 4 + 4 + 3
    assert list(zip(windows.start.tolist(), windows.length.tolist(), strict=True)) == [(7, 4), (3, 4), (0, 3)]


def test_a_batch_pairs_each_event_with_the_next(data):
    windows = training_windows(data.offsets[:-1], data.offsets[1:] - 2, 6)
    for number in range(len(windows.user)):
        batch = WindowDataset(data, windows)[np.array([number])]
        length = int(batch.lengths[0])
        assert batch.items[0, :length].tolist() == list(
            range(windows.start[number] + 1, windows.start[number] + length + 1)
        )
        assert torch.equal(batch.targets, batch.items + 1)


def test_no_held_out_event_is_ever_in_a_training_batch(tiny_data, tiny_split):
    windows = training_windows(tiny_split.train_start, tiny_split.train_end, 10)
    batch = WindowDataset(tiny_data, windows)[np.arange(len(windows.user))]
    inputs = batch.items[batch.mask].bincount(minlength=tiny_data.n_items + 1)
    targets = batch.targets[batch.mask].bincount(minlength=tiny_data.n_items + 1)
    training = np.concatenate(
        [tiny_data.items[s:e] for s, e in zip(tiny_split.train_start, tiny_split.train_end, strict=True)]
    )
    first = tiny_data.items[tiny_split.train_start]
    expected = np.bincount(training, minlength=tiny_data.n_items + 1)
    assert (targets.numpy() == expected - np.bincount(first, minlength=tiny_data.n_items + 1)).all()
    assert (inputs.numpy() <= expected).all()


def test_pads_are_zero_everywhere_and_on_the_right(data):
    batch = gather(data, np.array([0, 3, 4]), np.array([0, 6, 29]), np.array([2, 7, 0]), with_targets=True)
    assert batch.items.shape == (3, 7)
    assert batch.items[0].tolist() == [1, 2, 0, 0, 0, 0, 0]
    assert batch.mask.sum(1).tolist() == batch.lengths.tolist() == [2, 7, 0]
    for values in (batch.items, batch.timestamps, batch.targets, batch.behaviours):
        assert values.dtype == torch.int64
        assert not values[~batch.mask].any()
        assert values[batch.mask].all()
    assert torch.equal(batch.timestamps, batch.items * 10)
    assert torch.equal(batch.behaviours[batch.mask], (batch.items[batch.mask] - 1) % 3 + 1)


def test_a_moved_batch_keeps_what_it_has_and_what_it_lacks(data):
    batch = gather(data, np.array([0]), np.array([0]), np.array([3]), with_targets=False).to("cpu")
    assert batch.targets is None
    assert batch.items.tolist() == [[1, 2, 3]]
    assert len(batch) == 1


def test_a_training_batch_says_which_windows_it_holds_and_keeps_that_on_the_host(data):
    windows = training_windows(data.offsets[:-1], data.offsets[1:] - 2, 6)
    chosen = np.array([4, 0, 2])
    batch = WindowDataset(data, windows)[chosen]
    assert batch.windows.tolist() == chosen.tolist()
    assert batch.lengths.tolist() == windows.length[chosen].tolist()
    moved = batch.to("meta")
    assert (moved.items.device.type, moved.windows.device.type) == ("meta", "cpu")
    assert gather(data, np.array([0]), np.array([0]), np.array([3]), with_targets=False).windows is None


def test_prefixes_are_one_row_a_real_position(data):
    batch = gather(data, np.array([0, 3, 4]), np.array([0, 6, 29]), np.array([3, 5, 1]), with_targets=True)
    rows = prefixes(batch)
    expected = [(b, i) for b in range(len(batch)) for i in range(int(batch.lengths[b]))]
    assert len(rows) == len(expected) == int(batch.mask.sum())
    assert (rows.targets, rows.windows) == (None, None)
    for n, (b, i) in enumerate(expected):
        assert int(rows.lengths[n]) == i + 1
        assert rows.user[n] == batch.user[b]
        for name in ("items", "timestamps", "behaviours"):
            found, whole = getattr(rows, name)[n], getattr(batch, name)[b]
            assert torch.equal(found[: i + 1], whole[: i + 1])
            assert not found[i + 1 :].any()
    plain = gather(data, np.array([0]), np.array([0]), np.array([3]), with_targets=False)
    plain.behaviours = None
    assert prefixes(plain).behaviours is None


@settings(max_examples=40)
@given(lengths_of_users, st.integers(1, 60), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_covers_each_window_once(lengths, batch_size, seed, epoch):
    windows = windows_of(lengths)
    plan = EpochSampler(windows, batch_size, seed).plan(epoch)
    covered = np.concatenate([np.empty(0, int), *plan])
    assert sorted(covered.tolist()) == list(range(len(windows.user)))


@settings(max_examples=40)
@given(lengths_of_users, st.integers(1, 60))
def test_there_are_never_more_batches_than_announced(lengths, batch_size):
    sampler = EpochSampler(windows_of(lengths), batch_size, 1)
    assert len([batch for batch in sampler if len(batch)]) <= len(sampler)


@pytest.fixture(scope="module")
def many():
    generator = np.random.default_rng(0)
    return windows_of(generator.integers(0, 60, 3000).tolist(), max_length=50)


def test_batches_hold_about_the_wanted_number_of_targets(many):
    sampler = EpochSampler(many, 512, seed=1)
    targets = np.array([many.length[batch].sum() for batch in sampler])
    # A window is never cut, so a batch may miss or exceed its size by one window.
    assert len(targets) == len(sampler)
    assert (np.sort(targets)[1:] >= 512 - 50).all()  # the last batch holds what is left
    assert (targets <= 512 + 50).all()
    assert targets.mean() == pytest.approx(512, rel=0.02)


def test_windows_of_a_batch_are_alike_in_length(many):
    def pads(batches):
        return sum(len(batch) * many.length[batch].max() for batch in batches) - many.n_targets

    plan = EpochSampler(many, 512, seed=1).plan(0)
    shuffled = np.random.default_rng(0).permutation(len(many.length))
    in_random_order = np.split(shuffled, np.cumsum([len(batch) for batch in plan])[:-1])
    assert pads(plan) < 0.2 * pads(in_random_order)


def test_the_plan_depends_on_seed_and_epoch_alone(many):
    def flat(seed, epoch):
        np.random.default_rng().random()  # whatever else was drawn before
        return [batch.tolist() for batch in EpochSampler(many, 512, seed).plan(epoch)]

    assert flat(1, 0) == flat(1, 0)
    assert flat(1, 0) != flat(1, 1)
    assert flat(1, 0) != flat(2, 0)
    sampler = EpochSampler(many, 512, seed=1)
    sampler.set_epoch(3)
    assert [batch.tolist() for batch in sampler] == flat(1, 3)


def test_short_and_long_batches_are_mixed_over_an_epoch(many):
    sampler = EpochSampler(many, 64, seed=1)
    longest = np.array([many.length[batch].max() for batch in sampler.plan(0)])
    assert len(longest) > 2 * POOL_BATCHES
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2


def test_no_window_no_batch():
    sampler = EpochSampler(Windows(np.empty(0, int), np.empty(0, int), np.empty(0, int)), 8, 1)
    assert sum(len(batch) for batch in sampler) == 0


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("max_length", [3, 100])
def test_evaluation_reads_the_most_recent_events_of_every_case(tiny_data, tiny_split, rows, max_length):
    cases = tiny_split.test
    found = {}
    for chosen, batch in evaluation_batches(tiny_data, cases, max_length, rows):
        assert len(chosen) == len(batch) <= rows
        assert batch.targets is None
        assert batch.items.shape[1] == batch.lengths.max()
        for case, row in zip(chosen.tolist(), range(len(batch)), strict=True):
            assert case not in found
            assert batch.user[row] == cases.user[case]
            found[case] = batch.items[row, : batch.lengths[row]].tolist()
    assert found == {
        c: tiny_data.items[max(cases.start[c], cases.end[c] - max_length) : cases.end[c]].tolist()
        for c in range(len(cases))
    }


@pytest.mark.parametrize("parts", [2, 3, 50])
def test_parts_take_the_blocks_of_one_list_in_turn(tiny_data, tiny_split, parts):
    whole = [chosen.tolist() for chosen, _ in evaluation_batches(tiny_data, tiny_split.test, 10, 16)]
    shares = [
        [chosen.tolist() for chosen, _ in evaluation_batches(tiny_data, tiny_split.test, 10, 16, part, parts)]
        for part in range(parts)
    ]
    assert all(share == whole[part::parts] for part, share in enumerate(shares))
