"""The last day of training drawn anew: which events go, and that nothing else moves."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data.cases import flat_ranges
from recbench.data.kept import Kept
from recbench.data.meetings import FirstMeetings
from recbench.data.prepared import PreparedData
from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.resampled import resampled
from recbench.data.split import make_split
from recbench.data.training import TrainingData

DAY = 86_400


def made(folder, days):
    """200 users with six events, one a day of the list; the last two become validation and test."""
    items = np.random.default_rng(0).integers(1, 40, (200, 6))
    times = np.tile(np.array(days) * DAY, (200, 1)) + np.arange(200)[:, None]
    kept = Kept(items.ravel() / 2, pl.Series([f"on {item}" for item in items.ravel()]))
    data = PreparedData.from_arrays(folder, items.ravel(), np.arange(0, 1201, 6), times.ravel(), n_items=40, kept=kept)
    return data, make_split(data, LeaveOneOutConfig(), None)


def test_events_of_the_last_day_alone_are_drawn(tmp_path):
    data, split = made(tmp_path, [0, 1, 2, 3, 4, 5])
    other, drawn = resampled(data, split, 7)
    _, before = flat_ranges(split.train_start, split.train_end)
    _, after = flat_ranges(drawn.train_start, drawn.train_end)
    user, item, time = TrainingData.of(other, drawn).flat()
    assert np.array_equal(other.items[: len(data.items)], data.items)  # histories of evaluation
    assert drawn.test is split.test
    assert np.array_equal(other.ratings, other.items / 2)
    assert other.reviews().to_list() == [f"on {item}" for item in other.items]
    met = FirstMeetings(other).positions(np.array([3]), data.items[18:24][None])
    assert np.array_equal(data.items[met], data.items[18:24][None])
    old = np.asarray(data.timestamps[before]) < 3 * DAY
    assert (time < 3 * DAY).sum() == old.sum()
    assert np.array_equal(item[time < 3 * DAY], np.asarray(data.items[before])[old])
    share = (len(after) - old.sum()) / (len(before) - old.sum())
    assert 0.55 < share < 0.71  # 1 - 1/e of 200 events
    known = set(zip(*(column.tolist() for column in TrainingData.of(data, split).flat()), strict=True))
    kept = list(zip(user.tolist(), item.tolist(), time.tolist(), strict=True))
    assert set(kept) <= known
    assert len(set(kept)) == len(kept)
    again, _ = resampled(data, split, 7)
    third, _ = resampled(data, split, 8)
    assert other.fingerprint == again.fingerprint != third.fingerprint
    assert other.judged_fingerprint == third.judged_fingerprint == data.fingerprint
    assert resampled(data, split, None) == (data, split)


def test_data_without_a_last_day_are_refused(tmp_path):
    data, split = made(tmp_path / "one", [0, 0, 0, 0, 4, 5])
    with pytest.raises(UserError, match="all training events are of one day"):
        resampled(data, split, 1)
    timeless = PreparedData.from_arrays(tmp_path / "none", np.asarray(data.items), np.asarray(data.offsets))
    with pytest.raises(UserError, match="these data have no times"):
        resampled(timeless, make_split(timeless, LeaveOneOutConfig(), None), 1)
