"""What each operator may do to a history, whatever its length and share."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbench.data.batches import Batch
from recbench.models.term_config import AugmentedConfig
from recbench.objectives.contrastive.augment import CROP, MASK, REORDER, augmented, two_views

lengths_of_rows = st.lists(st.integers(1, 30), min_size=1, max_size=8)
shares_of_a_history = st.floats(0.01, 0.99)
seeds = st.integers(0, 10_000)


def histories(lengths, extra=0):
    """Item 100 r + p + 1 at place p of row r, so that an item says where it stood; its time ten times, its behaviour a fiftieth of that."""
    n = torch.tensor(lengths)
    place = torch.arange(int(n.max()) + extra)
    items = torch.where(place < n[:, None], 100 * torch.arange(len(n))[:, None] + place + 1, 0)
    return Batch(
        items=items,
        timestamps=items * 10,
        lengths=n,
        user=torch.arange(len(n)),
        targets=items,
        behaviours=items % 50,
        windows=torch.arange(len(n)),
    )


def view_of(lengths, operator, share, seed, extra=0):
    """(the batch, its view under one operator, how many events of each row the share is)."""
    batch = histories(lengths, extra)
    shares = AugmentedConfig(crop=share, mask=share, reorder=share)
    generator = torch.Generator().manual_seed(seed)
    view = augmented(batch, torch.full((len(lengths),), operator), shares, generator)
    return batch, view, [math.floor(share * n + 1e-9) for n in lengths]


def rows_of(batch, name):
    return [row[: int(n)].tolist() for row, n in zip(getattr(batch, name), batch.lengths, strict=True)]


@given(lengths_of_rows, shares_of_a_history, seeds)
def test_a_crop_is_a_run_of_the_history_with_all_that_belongs_to_it(lengths, share, seed):
    batch, view, sizes = view_of(lengths, CROP, share, seed)
    assert view.lengths.tolist() == [max(1, size) for size in sizes]
    for before, items in zip(rows_of(batch, "items"), rows_of(view, "items"), strict=True):
        start = before.index(items[0])
        assert items == before[start : start + len(items)]
    assert rows_of(view, "timestamps") == [[10 * item for item in items] for items in rows_of(view, "items")]
    assert rows_of(view, "behaviours") == [[item % 50 for item in items] for items in rows_of(view, "items")]


@given(lengths_of_rows, shares_of_a_history, seeds)
def test_a_mask_hides_so_many_items_and_moves_nothing(lengths, share, seed):
    batch, view, sizes = view_of(lengths, MASK, share, seed)
    assert view.lengths.tolist() == lengths
    assert [items.count(0) for items in rows_of(view, "items")] == sizes
    kept = (view.items != 0) | ~batch.mask
    assert torch.equal(view.items[kept], batch.items[kept])
    assert torch.equal(view.behaviours, view.items % 50)  # what was done with a hidden item is hidden too
    assert torch.equal(view.timestamps, batch.timestamps)


@given(lengths_of_rows, shares_of_a_history, seeds)
def test_reordering_shuffles_the_items_of_one_run_and_no_times(lengths, share, seed):
    batch, view, sizes = view_of(lengths, REORDER, share, seed)
    assert view.lengths.tolist() == lengths
    for before, items, size in zip(rows_of(batch, "items"), rows_of(view, "items"), sizes, strict=True):
        assert sorted(items) == before
        moved = [place for place, (a, b) in enumerate(zip(before, items, strict=True)) if a != b]
        assert not moved or moved[-1] - moved[0] < size
    assert torch.equal(view.behaviours, view.items % 50)
    assert torch.equal(view.timestamps, batch.timestamps)


@given(lengths_of_rows, st.sampled_from([CROP, MASK, REORDER]), shares_of_a_history, seeds)
def test_a_view_holds_real_items_at_most_once_then_pads_and_leaves_its_history_alone(lengths, operator, share, seed):
    batch, view, _ = view_of(lengths, operator, share, seed, extra=3)
    untouched = histories(lengths, extra=3)
    assert all(torch.equal(getattr(batch, f), getattr(untouched, f)) for f in ("items", "timestamps", "lengths"))
    assert view.items.shape == batch.items.shape
    assert not any(getattr(view, name)[~view.mask].any() for name in ("items", "timestamps", "behaviours"))
    assert (view.lengths >= 1).all()
    for before, items in zip(rows_of(batch, "items"), rows_of(view, "items"), strict=True):
        real = [item for item in items if item]
        assert set(real) <= set(before)
        assert len(set(real)) == len(real)
    assert view.targets is None
    assert view.windows is None


@pytest.mark.parametrize("operator", [CROP, MASK, REORDER])
def test_a_history_of_one_event_stays_as_it_is(operator):
    batch, view, _ = view_of([1, 1], operator, 0.9, 3)
    assert torch.equal(view.items, batch.items)
    assert torch.equal(view.lengths, batch.lengths)


def test_a_batch_without_behaviours_has_views_without():
    batch = histories([4, 2])
    batch.behaviours = None
    assert two_views(batch, AugmentedConfig())[0].behaviours is None


def test_a_share_that_only_rounding_keeps_from_a_whole_number_is_that_number():
    assert 0.29 * 100 < 29
    _, view, _ = view_of([100], CROP, 0.29, 0)
    assert view.lengths.tolist() == [29]


def frequencies(operator, length, share, describe, draws=6000):
    _, view, _ = view_of([length] * draws, operator, share, 11)
    counts = Counter(describe([item % 100 for item in items]) for items in rows_of(view, "items"))
    return {outcome: count / draws for outcome, count in counts.items()}


def test_every_run_is_cropped_as_often():
    found = frequencies(CROP, 4, 0.5, tuple)
    assert set(found) == {(1, 2), (2, 3), (3, 4)}
    assert all(abs(share - 1 / 3) < 0.03 for share in found.values())


def test_every_set_of_places_is_masked_as_often():
    found = frequencies(MASK, 4, 0.5, lambda items: tuple(place for place, item in enumerate(items) if not item))
    assert set(found) == set(itertools.combinations(range(4), 2))
    assert all(abs(share - 1 / 6) < 0.03 for share in found.values())


def test_every_order_comes_as_often():
    found = frequencies(REORDER, 3, 1.0, tuple)
    assert set(found) == set(itertools.permutations((1, 2, 3)))
    assert all(abs(share - 1 / 6) < 0.03 for share in found.values())


def test_the_two_views_of_a_row_come_from_different_operators():
    batch = histories([20] * 900)
    shares = AugmentedConfig(crop=0.5, mask=0.5, reorder=1.0)

    def operators(view):
        cropped, masked = view.lengths < 20, ((view.items == 0) & view.mask).any(1)
        return torch.where(cropped, CROP, torch.where(masked, MASK, REORDER))

    first, second = map(operators, two_views(batch, shares))
    assert (first != second).all()
    for found in (first, second):
        assert (found.bincount(minlength=3) > 240).all()


def test_equal_generators_draw_equal_views():
    batch, shares = histories([9, 5, 2, 1]), AugmentedConfig()
    left, right = (two_views(batch, shares, torch.Generator().manual_seed(4)) for _ in range(2))
    assert all(torch.equal(a.items, b.items) for a, b in zip(left, right, strict=True))
    torch.manual_seed(4)  # and torch's own stands in for one that is not given
    assert torch.equal(two_views(batch, shares)[1].items, left[1].items)
