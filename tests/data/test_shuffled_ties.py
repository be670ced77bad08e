"""data.shuffle_ties: the order of events at one time is drawn, and nothing else changes."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data.arrange import Cleaned
from recbench.data.cleaning import clean
from recbench.data.schema import DataConfig, RawData


def cleaned(folder, rows: dict, seed: int | None, **more: object) -> Cleaned:
    pl.DataFrame(rows).write_parquet(folder / "rows.parquet")
    return clean(RawData(folder / "rows.parquet", **more), DataConfig(k_core=0, shuffle_ties=seed))


def sorted_by_name(n_users: int = 200, n_items: int = 9) -> dict:
    """Every user takes the same items on one day, in the file by ascending name, and one more the day after."""
    names = [f"i{i}" for i in range(n_items)]
    return {
        "user": [f"u{u}" for u in range(n_users) for _ in range(n_items + 1)],
        "item": [name for _ in range(n_users) for name in (*names, "last")],
        "timestamp": [t for _ in range(n_users) for t in (*[0] * n_items, 86_400)],
    }


def test_only_events_of_one_time_change_places(tmp_path):
    rows = sorted_by_name()
    plain, drawn = cleaned(tmp_path, rows, None), cleaned(tmp_path, rows, 1)
    assert np.array_equal(plain.timestamps, drawn.timestamps)
    before, after = (part.items.reshape(200, 10) for part in (plain, drawn))
    assert np.array_equal(before[:, -1], after[:, -1])
    assert np.array_equal(np.sort(before, axis=1), np.sort(after, axis=1))
    # In the file an item is followed by the next one always; drawn, by each of the others about equally often.
    assert len({tuple(row) for row in before}) == 1
    assert len({tuple(row) for row in after}) == 200
    first = np.bincount(after[:, 0], minlength=11)[np.unique(before[:, :9])]
    assert first.min() > 8  # 22 expected, deviation 4.4
    assert first.max() < 40


def test_a_seed_has_its_order(tmp_path):
    one, again, two = (cleaned(tmp_path, sorted_by_name(), seed).items for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert (one != two).mean() > 0.7


@pytest.mark.parametrize(
    ("seed", "told"),
    [(-1, "data.shuffle_ties=-1 is a seed: 0 or more"), (1, "data.shuffle_ties=1 needs timestamps")],
)
def test_what_makes_no_sense_is_refused(tmp_path, seed, told):
    with pytest.raises(UserError, match=told):
        DataConfig(shuffle_ties=seed).validate()
        cleaned(tmp_path, sorted_by_name(2), seed, has_timestamps=False)
