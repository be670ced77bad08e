"""Cleaning: the order of the steps, the k-core against a brute-force one, ties in time, ids."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbench.core.errors import UserError
from recbench.data.arrange import Cleaned
from recbench.data.cleaning import clean, keep_core
from recbench.data.events import Events
from recbench.data.parts import WholeLog
from recbench.data.schema import DataConfig, RawData

Row = dict[str, object]


def cleaned(
    tmp_path: Path, rows: list[Row], has_timestamps: bool = True, ticks: int = 1, **settings: object
) -> Cleaned:
    """Clean rows given as dictionaries; a missing timestamp is the row's number."""
    columns = {"user": pl.String, "item": pl.String, "timestamp": pl.Int64}
    optional = {"rating": pl.Float32, "behaviour": pl.String, "session": pl.String}
    schema = columns | {name: kind for name, kind in optional.items() if any(name in row for row in rows)}
    rows = [{"timestamp": number, **row} for number, row in enumerate(rows)]
    pl.DataFrame(rows, schema=schema).write_parquet(tmp_path / "rows.parquet")
    raw = RawData(tmp_path / "rows.parquet", has_timestamps=has_timestamps, ticks_per_second=ticks)
    return clean(raw, DataConfig(**{"k_core": 0, **settings}))  # type: ignore[arg-type]


def sequences(result: Cleaned) -> dict[str, list[str]]:
    """Raw ids back: user -> items in order."""
    items = [result.item_ids[int(i) - 1] for i in result.items]
    bounds = zip(result.user_ids, result.offsets[:-1], result.offsets[1:], strict=True)
    return {user: items[start:end] for user, start, end in bounds}


def events(text: str) -> list[Row]:
    """ "u:a u:b" -> two rows."""
    return [{"user": pair.split(":")[0], "item": pair.split(":")[1]} for pair in text.split()]


def test_events_stand_by_user_and_time_and_ties_keep_the_order_of_the_file(tmp_path):
    times = [5, 5, 1, 5, 5, 0]
    rows = [{**row, "timestamp": t} for row, t in zip(events("u:c u:a u:z v:b u:b v:a"), times, strict=True)]
    result = cleaned(tmp_path, rows)
    assert sequences(result) == {"u": ["z", "c", "a", "b"], "v": ["a", "b"]}
    u = list(result.user_ids).index("u")
    assert result.timestamps is not None
    assert result.timestamps[result.offsets[u] : result.offsets[u + 1]].tolist() == [1, 5, 5, 5]


def test_milliseconds_decide_the_order_and_seconds_are_kept(tmp_path):
    rows = [{**row, "timestamp": t} for row, t in zip(events("u:b u:a u:c"), (1_999, 1_001, 2_000), strict=True)]
    result = cleaned(tmp_path, rows, ticks=1000)
    assert sequences(result) == {"u": ["a", "b", "c"]}
    assert result.timestamps is not None
    assert result.timestamps.tolist() == [1, 1, 2]


def test_without_a_clock_the_file_is_the_order_and_nothing_counts_as_a_duplicate(tmp_path):
    rows = [{**row, "timestamp": 0} for row in events("u:b v:x u:a u:b")]
    result = cleaned(tmp_path, rows, has_timestamps=False)
    assert sequences(result) == {"u": ["b", "a", "b"], "v": ["x"]}
    assert result.timestamps is None
    assert [step["step"] for step in result.steps] == ["read"]


def test_equal_events_count_once_and_a_difference_in_anything_makes_two(tmp_path):
    base = {"user": "u", "item": "a", "timestamp": 7, "behaviour": "view", "session": "s"}
    others = [
        {**base, **change} for change in ({"timestamp": 8}, {"behaviour": "buy"}, {"session": "t"}, {"item": "b"})
    ]
    result = cleaned(tmp_path, [base, base, *others, base])
    assert len(result.items) == 5
    assert result.steps == [
        {"step": "read", "rows": 7, "users": 1, "items": 2},
        {"step": "duplicates", "rows": 5, "users": 1, "items": 2},
    ]


def test_the_rating_filter_comes_before_the_k_core(tmp_path):
    good, poor = events("u:a u:b v:a v:b"), events("w:a w:b")
    rows = [{**row, "rating": 5.0} for row in good] + [
        {**row, "rating": r} for row, r in zip(poor, (2.0, None), strict=True)
    ]
    result = cleaned(tmp_path, rows, min_rating=4.0, k_core=2)
    assert sequences(result) == {"u": ["a", "b"], "v": ["a", "b"]}
    assert [(step["step"], step["rows"]) for step in result.steps] == [
        ("read", 6), ("rating", 4), ("duplicates", 4), ("k_core", 4),
    ]  # fmt: skip


def test_copies_do_not_carry_a_user_over_the_k_core(tmp_path):
    rows = [
        {**row, "timestamp": t} for row, t in zip(events("u:a u:b v:a v:b w:a w:a"), (1, 2, 1, 2, 3, 3), strict=True)
    ]
    assert set(sequences(cleaned(tmp_path, rows, k_core=2))) == {"u", "v"}


def test_repeats_first_keeps_the_earliest_and_of_equal_times_the_first_in_the_file(tmp_path):
    rows = [{**row, "timestamp": t} for row, t in zip(events("u:a u:b u:a u:c u:b"), (9, 4, 3, 5, 4), strict=True)]
    result = cleaned(tmp_path, rows, repeats="first")
    assert sequences(result) == {"u": ["a", "b", "c"]}
    assert sequences(cleaned(tmp_path, rows)) == {"u": ["a", "b", "c", "a"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"k_core": 3},
            r"after the step 'k_core' \(read: 4 rows, 2 users, 2 items; .*k_core: 0 rows.*lower data.k_core",
        ),
        ({"min_rating": 6.0}, r"after the step 'rating' \(read: 4 rows.*rating: 0 rows.*lower data.min_rating"),
    ],
)
def test_a_filter_that_leaves_nothing_shows_the_counts_and_what_to_change(tmp_path, settings, message):
    rows = [{**row, "rating": 5.0} for row in events("u:a u:b v:a v:b")]
    with pytest.raises(UserError, match=message):
        cleaned(tmp_path, rows, **settings)


def test_a_rating_filter_without_ratings_is_refused(tmp_path):
    with pytest.raises(UserError, match="min_rating=4 asks for ratings, but these data have none"):
        cleaned(tmp_path, events("u:a"), min_rating=4.0)


def test_behaviours_are_numbered_by_name_from_one_and_unknown_is_zero(tmp_path):
    kinds = ["view", None, "buy", "view"]
    rows = [{**row, "behaviour": kind} for row, kind in zip(events("u:a u:b u:c u:d"), kinds, strict=True)]
    result = cleaned(tmp_path, rows)
    assert result.behaviour_names == ["buy", "view"]
    assert result.behaviours is not None
    assert result.behaviours.tolist() == [2, 0, 1, 2]


def test_sessions_are_counted_within_each_user_in_time_order(tmp_path):
    names = ["x", "x", "y", "x", "z"]
    rows = [{**row, "session": name} for row, name in zip(events("u:a u:b u:c v:a v:b"), names, strict=True)]
    result = cleaned(tmp_path, rows)
    assert result.sessions is not None
    by_user = {
        u: result.sessions[result.offsets[n] : result.offsets[n + 1]].tolist() for n, u in enumerate(result.user_ids)
    }
    assert by_user == {"u": [0, 0, 1], "v": [0, 1]}


def test_numbers_depend_on_the_raw_id_alone(tmp_path):
    rows = [{"user": f"u{n % 7}", "item": f"i{n:03}", "timestamp": n} for n in range(200)]
    one, other = cleaned(tmp_path, rows), cleaned(tmp_path, rows[::-1])
    assert one.item_ids.to_list() == other.item_ids.to_list()
    assert one.user_ids.to_list() == other.user_ids.to_list()
    # Neither in the order of the file nor of the names: ranks of 200 items correlate by chance only.
    appearance = [int(item[1:]) for item in one.item_ids]
    assert abs(np.corrcoef(appearance, np.arange(200))[0, 1]) < 0.25


def brute_force_core(pairs: list[tuple[int, int]], k: int) -> list[tuple[int, int]]:
    while True:
        users, items = Counter(u for u, _ in pairs), Counter(i for _, i in pairs)
        kept = [(u, i) for u, i in pairs if users[u] >= k and items[i] >= k]
        if kept == pairs:
            return pairs
        pairs = kept


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=60), st.integers(2, 5))
@settings(max_examples=150, deadline=None)
def test_the_k_core_is_the_brute_force_one(pairs, k):
    user, item = (np.array([p[n] for p in pairs], np.uint32) for n in (0, 1))
    left = Events(user, item, np.arange(len(pairs)), np.arange(len(pairs)))
    keep_core(WholeLog(left), k)
    assert list(zip(left.user.tolist(), left.item.tolist(), strict=True)) == brute_force_core(pairs, k)


def test_more_rows_than_one_batch_of_the_spool(tmp_path, monkeypatch):
    rows = [{"user": f"u{n % 5}", "item": f"i{n % 11}", "timestamp": n} for n in range(300)]
    whole = cleaned(tmp_path, rows)
    monkeypatch.setattr("recbench.data.events.BATCH_ROWS", 7)
    pieces = cleaned(tmp_path, rows)
    assert (whole.items == pieces.items).all()
    assert sequences(whole) == sequences(pieces)
