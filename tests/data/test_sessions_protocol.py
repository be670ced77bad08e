"""The protocol ``sessions``: exact arrays on hand-made sessions, its switches, and what must hold on any data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbench.core.errors import UserError
from recbench.data.cases import flat_ranges
from recbench.data.protocol import LeaveOneOutConfig, SessionsConfig
from recbench.data.session_parts import border_time
from recbench.data.split import make_split, protocol_view
from recbench.data.store import PreparedData

DAY = 86_400
IS_SESSIONS = {"users_are_sessions": True}
# (items, day of the last event); the last session is on day 10. With test_days=2 the test is later than day 8, validation
# later than day 5 (the last session before it is on day 7).
SESSIONS = [
    ([1, 2, 3], 1),
    ([2, 3, 2], 2),
    ([3, 1], 5),  # on the border of validation: training
    ([9], 3),  # one event
    ([1, 3, 8, 2], 7),  # 8 is not in training
    ([2, 1], 6),
    ([1, 7], 9),  # too short without the 7
    ([3, 7, 1, 1], 10),
    ([2, 3], 8),  # on the border of the test: belongs to what is before it
]
TWO_DAYS = {"test_days": 2}


@pytest.fixture(scope="module")
def make_data(tmp_path_factory):
    def make(rows, published=IS_SESSIONS, behaviours=False, **more):
        items = np.array([item for row, _ in rows for item in row])
        times = np.concatenate([int(day * DAY) - np.arange(len(row))[::-1] for row, day in rows])
        offsets = np.cumsum([0] + [len(row) for row, _ in rows])
        kinds = (items % 3 + 1).astype(np.int8) if behaviours else None
        return PreparedData.from_arrays(
            tmp_path_factory.mktemp("data"),
            items,
            offsets,
            times,
            kinds,
            behaviour_names=["buy", "cart", "view"] if behaviours else None,
            details={"extra": {"sessions": published, "oracle": {"test/ndcg@10": 1.0}}},
            **more,
        )

    return make


def split_of(data, **asked):
    config = SessionsConfig(**asked)
    view = protocol_view(data, config)
    return view, make_split(view, config, None)


def named(view, cases):
    """(raw session, raw history, raw target) of each case."""
    raw = view.item_table()["item"]
    users = view.user_ids()["user_id"]
    items = [int(raw[int(i) - 1]) for i in view.items]
    return [
        (int(users[int(u)]), items[int(s) : int(e)], int(raw[int(t) - 1]))
        for u, s, e, t in zip(cases.user, cases.start, cases.end, cases.targets, strict=True)
    ]


def trained(view, split):
    """raw session -> raw items, of the sessions that are learned from."""
    raw, users = view.item_table()["item"], view.user_ids()["user_id"]
    return {
        int(users[int(u)]): [int(raw[int(i) - 1]) for i in view.items[split.train_start[u] : split.train_end[u]]]
        for u in np.flatnonzero(split.train_end > split.train_start)
    }


def test_by_hand(make_data):
    view, split = split_of(make_data(SESSIONS), **TWO_DAYS)
    # Validation: later than day 8 - 2 = 6.
    assert trained(view, split) == {0: [1, 2, 3], 1: [2, 3, 2], 2: [3, 1], 5: [2, 1]}
    assert named(view, split.validation) == [(4, [1], 3), (4, [1, 3], 2), (8, [2], 3)]
    assert named(view, split.test) == [(7, [3], 1), (7, [3, 1], 1)]
    assert view.n_items == 3
    assert split.seen_items == "keep"
    assert split.protocol_id == "sessions-d2-full-keep-v1"
    counts = {
        "sessions_of_one_event": 1,
        "events_with_items_not_in_training": 3,
        "validation_sessions_dropped": 0,
        "test_sessions_dropped": 1,
        "sessions_lost_at_a_border": 0,
        "validation_in_training": 0,
    }
    assert {name: split.audit[name] for name in counts} == counts
    assert split.audit["cold_targets"] == split.audit["leaked_targets"] == 0
    assert split.audit["repeated_targets"] == 1 / 2


def test_strict_cuts_lose_the_sessions_on_a_border(make_data):
    view, split = split_of(make_data(SESSIONS), strict_cuts=True, **TWO_DAYS)
    # The border of the test is day 8; then the last is day 7, so the border of validation is day 5.
    assert set(trained(view, split)) == {0, 1}
    assert {case[0] for case in named(view, split.validation)} == {4, 5}
    assert split.audit["sessions_lost_at_a_border"] == 2
    assert "-strict-" in split.protocol_id


def test_days_of_data_that_know_dates_only(make_data):
    by_hour = [(row, day + 0.3 * (number % 3)) for number, (row, day) in enumerate(SESSIONS)]
    exact, _ = split_of(make_data(by_hour), strict_cuts=True, **TWO_DAYS)
    _, split = split_of(make_data(by_hour, {**IS_SESSIONS, "day_dates": True}), strict_cuts=True, **TWO_DAYS)
    assert exact.manifest["extra"]["session_split"]["counts"]["sessions_lost_at_a_border"] == 0
    assert split.audit["sessions_lost_at_a_border"] == 2


def test_rare_items_are_counted_in_training_alone_unless_asked(make_data):
    # Item 4 comes once in training and twice in the test.
    sessions = [([1, 2], 1), ([2, 1, 4], 1), ([1, 2, 2], 2), ([1, 2], 5), ([4, 1, 4, 2], 10)]
    asked = {"test_days": 2, "min_item_count": 2, "fit_on_validation": True}
    view, split = split_of(make_data(sessions), **asked)
    assert trained(view, split)[1] == [2, 1]
    assert named(view, split.test) == [(4, [1], 2)]
    assert split.audit["events_of_rare_items"] == 3
    assert split.protocol_id == "sessions-d2-min2-fitval-full-keep-v1"
    view, split = split_of(make_data(sessions), count_over_all=True, **asked)
    assert trained(view, split)[1] == [2, 1, 4]
    assert named(view, split.test) == [(4, [4], 1), (4, [4, 1], 4), (4, [4, 1, 4], 2)]
    assert split.audit["events_of_rare_items"] == 0


def test_fit_on_validation_trains_on_it_and_says_so(make_data):
    apart, without = split_of(make_data(SESSIONS), **TWO_DAYS)
    view, split = split_of(make_data(SESSIONS), fit_on_validation=True, **TWO_DAYS)
    assert set(trained(view, split)) == {0, 1, 2, 4, 5, 8}
    assert (split.validation_in_training, without.validation_in_training) == (True, False)
    assert split.audit["validation_in_training"] == 1
    # The 8 of a validation session is known now.
    assert (apart.n_items, view.n_items) == (3, 4)


def test_only_the_most_recent_share_of_training_is_used(make_data):
    # Four training sessions with 3, 1, 1 and 3 cases; half of the 8 are in the last two.
    sessions = [([1, 2, 3, 1], 1), ([1, 2], 2), ([3, 2], 3), ([2, 1, 2, 1], 4), ([1, 2], 6), ([1, 3, 2], 9)]
    published = {**IS_SESSIONS, "test_days": 2, "train_fraction": "1/2"}
    view, split = split_of(make_data(sessions, published))
    assert set(trained(view, split)) == {2, 3}
    assert split.protocol_id == "sessions-d2-last1of2-full-keep-v1"
    published["train_fraction"] = "5/8"  # reaches into the second session, which is kept whole
    view, split = split_of(make_data(sessions, published))
    assert set(trained(view, split)) == {1, 2, 3}


def test_behaviours_text_and_times_stay_with_their_events(make_data):
    import polars as pl

    texts = pl.DataFrame({"item": [str(i) for i in range(1, 10)], "title": [f"title {i}" for i in range(1, 10)]})
    data = make_data(SESSIONS, behaviours=True, item_table=texts)
    view, _ = split_of(data, **TWO_DAYS)
    raw = view.item_table()
    assert raw["title"].to_list() == [f"title {item}" for item in raw["item"]]
    assert view.has_text
    assert view.has_behaviours
    assert view.manifest["behaviours"] == ["buy", "cart", "view"]
    items = raw["item"].cast(pl.Int64).to_numpy()[view.items - 1]
    assert (view.behaviours == items % 3 + 1).all()
    test = view.user_ids()["user_id"].to_list().index("7")
    assert view.timestamps[view.offsets[test] : view.offsets[test + 1]].tolist() == [10 * DAY - s for s in (3, 1, 0)]
    # What the source knew of the best score holds for another protocol.
    assert "oracle" not in view.manifest["extra"]


def test_sessions_within_users_are_units_of_their_own(make_data):
    number = np.array([0, 0, 1, 1, 0, 0, 1, 1, 1])
    rows = [([1, 2, 2, 1], 4), ([2, 1, 1, 2, 2], 9)]
    view, split = split_of(make_data(rows, {}, sessions=number), test_quantile=0.5)
    assert view.user_ids()["user_id"].to_list() == ["0#0", "0#1", "1#0", "1#1"]
    assert split.test.user.tolist() == [2, 3, 3]


def test_a_view_is_made_once_and_named_by_its_rule(make_data):
    data = make_data(SESSIONS)
    first, again = (protocol_view(data, SessionsConfig(**TWO_DAYS)) for _ in range(2))
    other = protocol_view(data, SessionsConfig(test_days=3))
    assert first.folder == again.folder != other.folder
    assert first.folder.name.startswith(f"{data.folder.name}-sessions-")
    assert isinstance(again.items, np.memmap)
    written = (first.folder / "manifest.json").stat().st_mtime_ns
    assert (protocol_view(data, SessionsConfig(**TWO_DAYS)).folder / "manifest.json").stat().st_mtime_ns == written


def test_a_split_is_only_made_of_the_view_of_the_same_rule(make_data):
    data = make_data(SESSIONS)
    with pytest.raises(ValueError, match="protocol_view"):
        make_split(data, SessionsConfig(), None)
    with pytest.raises(ValueError, match="protocol_view"):
        make_split(protocol_view(data, SessionsConfig(**TWO_DAYS)), SessionsConfig(test_days=3), None)
    assert protocol_view(data, LeaveOneOutConfig()) is data


@pytest.mark.parametrize(
    ("sessions", "published", "asked", "message"),
    [
        (SESSIONS, {}, {}, "needs sessions and these data have none; cut them with data.session_gap=SECONDS"),
        ([([1], 1), ([2], 2)], IS_SESSIONS, {}, "all 2 sessions of these data have one event only"),
        (SESSIONS, IS_SESSIONS, {"test_days": 100}, "0 validation cases and 0 test cases|nothing to train on"),
        (SESSIONS, IS_SESSIONS, {"min_item_count": 99}, "nothing to train on .*min_item_count"),
    ],
)
def test_data_that_cannot_be_split_are_refused(make_data, sessions, published, asked, message):
    with pytest.raises(UserError, match=message) as error:
        split_of(make_data(sessions, published), **asked)
    assert "\n" not in str(error.value)


def test_data_without_a_clock_have_no_early_and_late(tmp_path):
    extra = {"extra": {"sessions": IS_SESSIONS}}
    data = PreparedData.from_arrays(tmp_path / "data", np.array([1, 2, 1, 2]), np.array([0, 2, 4]), details=extra)
    with pytest.raises(UserError, match="needs timestamps to tell early sessions from late ones"):
        protocol_view(data, SessionsConfig())


def test_a_border_by_quantile_is_the_last_time_before_it():
    assert border_time(np.arange(100), "q0.9") == 89
    assert border_time(np.array([5, 5, 5, 9]), "q0.5") == 5
    assert border_time(np.array([3]), "q0.1") == 3


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(0, 20)), min_size=1, max_size=12
    ),
    least=st.integers(0, 3),
    switches=st.fixed_dictionaries(
        {name: st.booleans() for name in ("count_over_all", "strict_cuts", "fit_on_validation")}
    ),
    days=st.sampled_from([0, 4]),
)
def test_what_holds_on_any_sessions(make_data, rows, least, switches, days):
    # These make sure that no part of the split is empty.
    sure = [([1, 2, 1, 2], day) for day in range(21) for _ in range(2)]
    data = make_data([*rows, *sure])
    view, split = split_of(data, test_days=days, min_item_count=least, test_quantile=0.7, **switches)
    learned = flat_ranges(split.train_start, split.train_end)[1]
    known = set(view.items[learned].tolist())
    assert known == set(range(1, view.n_items + 1))
    asked = [set(cases.user.tolist()) for cases in (split.validation, split.test)]
    training = set(np.flatnonzero(split.train_end > split.train_start).tolist())
    assert not asked[0] & asked[1]
    assert not training & asked[1]
    assert bool(training & asked[0]) == switches["fit_on_validation"]
    for cases, users in zip((split.validation, split.test), asked, strict=True):
        lengths = np.diff(view.offsets)[sorted(users)]
        assert (lengths >= 2).all()
        assert len(cases) == (lengths - 1).sum()
        assert (cases.start == view.offsets[cases.user]).all()
        assert (cases.end > cases.start).all()
        assert (cases.end == cases.target_positions).all()
    ends = view.timestamps[view.offsets[1:] - 1]
    assert ends[sorted(training)].max() < ends[sorted(asked[1])].min()
    if not switches["fit_on_validation"]:
        assert ends[sorted(training)].max() < ends[sorted(asked[0])].min()
    if least and not switches["count_over_all"]:
        # Sessions that became too short may take a few more with them.
        assert np.bincount(view.items[learned])[1:].min() >= 1
