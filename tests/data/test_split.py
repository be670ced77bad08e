"""Splits: exact arrays on hand-made data, and what must hold on any data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbench.core.errors import UserError
from recbench.data.cases import Cases, flat_ranges
from recbench.data.protocol import LeaveOneOutConfig, TemporalConfig
from recbench.data.split import make_split
from recbench.data.store import PreparedData

# (item, time) of each user. Cuts at 100 (validation) and 200 (test) are used throughout.
EVENTS = [
    [(1, 10), (2, 20), (3, 100), (4, 150), (5, 200), (6, 250)],  # events in all three windows, two on the cuts
    [(2, 30), (1, 90)],  # training only
    [(3, 210), (4, 220), (3, 230)],  # appears after the test cut, repeats an item
    [(1, 50), (5, 220)],  # skips validation
    [(6, 120)],  # one event, inside the validation window
]
CUTS = {"validation_date": "1970-01-01T00:01:40", "test_date": "1970-01-01T00:03:20"}


@pytest.fixture(scope="module")
def make_data(tmp_path_factory):
    def make(events, with_times=True, n_items=None):
        items = np.array([item for user in events for item, _ in user])
        times = np.array([time for user in events for _, time in user]) if with_times else None
        offsets = np.cumsum([0] + [len(user) for user in events])
        return PreparedData.from_arrays(tmp_path_factory.mktemp("data"), items, offsets, times, n_items=n_items)

    return make


@pytest.fixture(scope="module")
def data(make_data):
    return make_data(EVENTS)


def listed(cases: Cases) -> list[tuple[int, int, int, list[int], list[int]]]:
    """(user, start, end, targets, target positions) of each case."""
    offsets = cases.target_offsets
    return [
        (
            int(cases.user[c]),
            int(cases.start[c]),
            int(cases.end[c]),
            cases.targets[offsets[c] : offsets[c + 1]].tolist(),
            cases.target_positions[offsets[c] : offsets[c + 1]].tolist(),
        )
        for c in range(len(cases))
    ]


def test_leave_one_out_by_hand(data):
    split = make_split(data, LeaveOneOutConfig(), None)
    # Flat positions: user 0 has 0..5, user 1 6..7, user 2 8..10, user 3 11..12, user 4 13.
    assert split.train_start.tolist() == [0, 6, 8, 11, 13]
    assert split.train_end.tolist() == [4, 8, 9, 13, 14]
    assert listed(split.validation) == [(0, 0, 4, [5], [4]), (2, 8, 9, [4], [9])]
    assert listed(split.test) == [(0, 0, 5, [6], [5]), (2, 8, 10, [3], [10])]
    assert split.protocol_id == "leave_one_out-full-keep-v1"
    assert split.metric_prefix == ""
    assert split.audit["users_with_fewer_than_3_events"] == split.audit["users_without_case"] == 3


def test_temporal_last_by_hand(data):
    split = make_split(data, TemporalConfig(**CUTS), None)
    # An event on a cut belongs to the later part.
    assert split.train_start.tolist() == [0, 6, 8, 11, 13]
    assert split.train_end.tolist() == [2, 8, 8, 12, 13]
    # User 4's only event has no history, so it is counted instead of asked.
    assert listed(split.validation) == [(0, 0, 3, [4], [3])]
    assert split.audit["validation_users_without_history"] == 1
    # User 2's history lies wholly inside the test window.
    assert listed(split.test) == [(0, 0, 5, [6], [5]), (2, 8, 10, [3], [10]), (3, 11, 12, [5], [12])]
    assert split.audit["test_users_without_history"] == 0
    assert (split.audit["validation_cut"], split.audit["test_cut"]) == (100, 200)


def test_temporal_successive_by_hand(data):
    split = make_split(data, TemporalConfig(target="successive", **CUTS), None)
    assert listed(split.validation) == [(0, 0, 2, [3], [2]), (0, 0, 3, [4], [3])]
    assert listed(split.test) == [
        (0, 0, 4, [5], [4]),
        (0, 0, 5, [6], [5]),
        (2, 8, 9, [4], [9]),
        (2, 8, 10, [3], [10]),
        (3, 11, 12, [5], [12]),
    ]


def test_temporal_all_by_hand(make_data):
    events = [*EVENTS, [(1, 1), (4, 205), (2, 206), (4, 207)]]
    split = make_split(make_data(events), TemporalConfig(target="all", **CUTS), None)
    # History ends at the cut; user 2 has none there. An item that comes twice is one target, at its first position.
    assert listed(split.test) == [(0, 0, 4, [5, 6], [4, 5]), (3, 11, 12, [5], [12]), (5, 14, 15, [4, 2], [15, 16])]
    assert split.audit["test_users_without_history"] == 1


def test_temporal_random_is_one_reachable_target_a_user_and_seeded(data):
    reachable = {0: {4, 5}, 2: {9, 10}, 3: {12}}
    drawn = set()
    for seed in range(20):
        config = TemporalConfig(target="random", seed=seed, **CUTS)
        cases = listed(make_split(data, config, None).test)
        assert [case[0] for case in cases] == [0, 2, 3]
        for user, _, end, _, (position,) in cases:
            assert position == end
            assert position in reachable[user]
            drawn.add(position)
        assert cases == listed(make_split(data, config, None).test)
    assert drawn == {4, 5, 9, 10, 12}


def test_cold_targets_are_kept_or_dropped_and_counted(data):
    # Training holds the items 1 and 2 only, which are nobody's target.
    kept = make_split(data, TemporalConfig(**CUTS), None)
    assert kept.audit["cold_targets"] == 1.0
    with pytest.raises(UserError, match="test_targets_dropped_as_cold 3"):
        make_split(data, TemporalConfig(cold_targets="drop", **CUTS), None)


def test_dropping_cold_targets_keeps_the_other_targets_of_a_case(make_data):
    events = [[(1, 1), (2, 2), (2, 110), (3, 205), (1, 206)], [(2, 3), (1, 120), (3, 210), (4, 220)]]
    split = make_split(make_data(events), TemporalConfig(target="all", cold_targets="drop", **CUTS), None)
    assert listed(split.test) == [(0, 0, 3, [1], [4])]
    assert split.audit["test_targets_dropped_as_cold"] == 3
    assert split.audit["cold_targets"] == 0


def test_quantile_cuts_are_event_times(make_data):
    events = [[(1, t), (2, t + 1)] for t in range(0, 20, 2)]
    split = make_split(make_data([*events, [(1, 0), (2, 16), (1, 18)]]), TemporalConfig(), None)
    # 23 events in time order: number 18 (of 23 * .8) and 20 (of 23 * .9), counted from 0.
    ordered = sorted([*range(20), 0, 16, 18])
    assert (split.audit["validation_cut"], split.audit["test_cut"]) == (ordered[18], ordered[20])


def test_quantiles_on_one_time_are_refused(make_data):
    with pytest.raises(UserError, match="fall on the same time"):
        make_split(make_data([[(1, 5), (2, 5), (3, 5)]] * 3), TemporalConfig(), None)


def test_data_without_timestamps(make_data):
    data = make_data(EVENTS, with_times=False)
    with pytest.raises(UserError, match="needs timestamps"):
        make_split(data, TemporalConfig(), None)
    split = make_split(data, LeaveOneOutConfig(), None)
    assert "leaked_targets" not in split.audit


def test_nothing_left_says_how_much_there_was(make_data):
    with pytest.raises(UserError, match=r"0 test cases of 4 events by 2 users \(users_with_fewer_than_3_events 2\)"):
        make_split(make_data([[(1, 1), (2, 2)], [(1, 1), (3, 2)]]), LeaveOneOutConfig(), None)
    far = TemporalConfig(validation_date="1970-01-01T00:01:40", test_date="2100-01-01")
    with pytest.raises(UserError, match="test_cut 4102444800"):
        make_split(make_data(EVENTS), far, None)


def test_seen_items_follow_the_data(make_data, data):
    no_repeats = make_data([[(1, 1), (2, 2), (3, 3)]] * 2)
    assert make_split(no_repeats, LeaveOneOutConfig(), None).seen_items == "mask"
    assert make_split(data, LeaveOneOutConfig(), None).seen_items == "keep"
    assert make_split(data, LeaveOneOutConfig(seen_items="mask"), None).seen_items == "mask"


def test_split_hash_follows_the_arrays(make_data, data):
    base = make_split(data, LeaveOneOutConfig(), None).split_hash
    assert base == make_split(make_data(EVENTS), LeaveOneOutConfig(seen_items="mask"), None).split_hash
    changed = [[*user] for user in EVENTS]
    changed[0][-1] = (1, 250)
    assert base != make_split(make_data(changed), LeaveOneOutConfig(), None).split_hash
    assert base != make_split(data, TemporalConfig(**CUTS), None).split_hash


@st.composite
def histories(draw):
    event = st.tuples(st.integers(1, 8), st.integers(0, 40))
    users = draw(st.lists(st.lists(event, max_size=12), max_size=8))
    # The last user is there so that no part of any split is empty.
    return [*(sorted(user, key=lambda event: event[1]) for user in users), [(1, 0), (2, 20), (3, 40)]]


@settings(max_examples=40, deadline=None)
@given(histories(), st.sampled_from(["leave_one_out", "last", "successive", "random", "all"]))
def test_training_never_reaches_a_target(make_data, events, kind):
    data = make_data(events)
    if kind == "leave_one_out":
        config = LeaveOneOutConfig()
    else:
        config = TemporalConfig(target=kind, validation_date="1970-01-01T00:00:10", test_date="1970-01-01T00:00:30")
    split = make_split(data, config, None)
    training = flat_ranges(split.train_start, split.train_end)[1]
    for cases in (split.validation, split.test):
        for user, start, end, targets, positions in listed(cases):
            assert data.offsets[user] == start < end <= min(positions) <= max(positions) < data.offsets[user + 1]
            assert split.train_end[user] <= min(positions)
            assert data.items[positions].tolist() == targets
            assert len(set(targets)) == len(targets)
            if kind != "all":
                assert [end] == positions
    if kind != "leave_one_out":
        assert (data.timestamps[training] < 10).all()
        validation_times = data.timestamps[split.validation.target_positions]
        assert ((validation_times >= 10) & (validation_times < 30)).all()
        assert (data.timestamps[split.test.target_positions] >= 30).all()
        assert split.audit["leaked_targets"] == split.audit["later_training"] == 0


def test_select_takes_cases_in_the_order_asked():
    cases = Cases(
        user=np.array([5, 6, 7]),
        start=np.array([0, 10, 20]),
        end=np.array([3, 14, 25]),
        target_offsets=np.array([0, 2, 2, 3]),
        targets=np.array([8, 9, 4], dtype=np.int32),
        target_positions=np.array([3, 4, 25]),
        candidates=np.array([[1], [2], [3]], dtype=np.int32),
    )
    chosen = cases.select(np.array([2, 0]))
    assert listed(chosen) == [(7, 20, 25, [4], [25]), (5, 0, 3, [8, 9], [3, 4])]
    assert chosen.candidates.tolist() == [[3], [1]]


def test_beauty_statistics(shared_data, tmp_path):
    """The published sizes, read without the cleaning: every user of this file has at least five events."""
    import polars as pl

    path = shared_data / "amazon" / "2014" / "reviews_Beauty_5.json.gz"
    table = pl.read_ndjson(path, schema={"reviewerID": pl.String, "asin": pl.String, "unixReviewTime": pl.Int64})
    table = table.with_columns(
        pl.col("reviewerID").rank("dense").alias("user"), pl.col("asin").rank("dense").cast(pl.Int32).alias("id")
    ).sort("user", "unixReviewTime", maintain_order=True)
    offsets = np.cumsum(np.bincount(table["user"]))  # users are ranked from 1, so the first sum is the leading 0
    data = PreparedData.from_arrays(tmp_path, table["id"].to_numpy(), offsets, table["unixReviewTime"].to_numpy())
    split = make_split(data, LeaveOneOutConfig(), None)
    assert (data.n_users, data.n_items, data.n_interactions) == (22_363, 12_101, 198_502)
    assert (len(split.test), split.audit["training_events"], split.seen_items) == (22_363, 153_776, "mask")
    assert split.audit["tied_targets"] == pytest.approx(0.4346, abs=1e-4)
    assert split.audit["leaked_targets"] > 0.999
