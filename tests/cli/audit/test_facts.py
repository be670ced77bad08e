"""Figures that need no model, on data where each can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recbench.cli.audit.facts import case_facts, cold_facts, data_facts, repeat_facts, time_facts
from recbench.data.cases import Cases
from recbench.data.protocol import LeaveOneOutConfig, TemporalConfig
from recbench.data.split import make_split
from recbench.data.store import PreparedData

DAY = 86_400
#: Training 1 2, 2 1, 1, 2; the users of two events and one only train.
ITEMS = [[1, 2, 3, 3], [2, 1, 3, 4], [1, 1], [2]]
TIMES = [[10, 20, 30, 30], [DAY, 2 * DAY, 3 * DAY, 3 * DAY + 1], [50, 50], [5]]


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    def prepared(histories, times=None, n_items=None, **more):
        items = np.array([item for history in histories for item in history])
        stamps = None if times is None else np.array([time for user in times for time in user])
        offsets = np.cumsum([0] + [len(history) for history in histories])
        folder = tmp_path_factory.mktemp("data")
        return PreparedData.from_arrays(folder, items, offsets, stamps, n_items=n_items, **more)

    return prepared


def test_time_by_hand(make):
    found = time_facts(make(ITEMS, TIMES))
    assert found["equal_timestamps"] == pytest.approx(2 / 7)
    assert found["users_of_one_moment"] == pytest.approx(1 / 3)
    assert found["whole_days"] == pytest.approx(3 / 11)
    assert time_facts(make(ITEMS)) == {}


def test_cold_by_hand(make):
    data = make(ITEMS, TIMES, n_items=5)
    found = cold_facts(data, make_split(data, LeaveOneOutConfig(), None))
    # Training knows 1 and 2 of five items; every test user trained, and every history holds a known item.
    assert found == {"cold_items": pytest.approx(3 / 5), "cold_users": 0, "blind_cases": 0}


def test_users_and_histories_that_training_does_not_know(make):
    data = make([[1, 2, 1, 2], [3, 4], [1, 3, 2]], [[1, 2, 11, 21], [22, 23], [3, 4, 24]])
    config = TemporalConfig(validation_date="1970-01-01T00:00:10", test_date="1970-01-01T00:00:20")
    split = make_split(data, config, None)
    assert split.test.user.tolist() == [0, 1, 2]
    found = cold_facts(data, split)
    # Item 4 alone is new; user 1 comes after the cut, with a history of item 3, which user 2 had before.
    assert found["cold_items"] == pytest.approx(1 / 4)
    assert found["cold_users"] == pytest.approx(1 / 3)
    assert found["blind_cases"] == 0


def test_repeats_by_hand(make):
    data = make(ITEMS, TIMES)
    found = repeat_facts(data, make_split(data, LeaveOneOutConfig(), None))
    # 3 3 of user 0 and 1 1 of user 2; of the targets 3 and 4 the first is the last item of its history.
    assert found["repeated_events"] == pytest.approx(2 / 11)
    assert found["immediate_repeats"] == pytest.approx(2 / 7)
    assert found["targets_at_once"] == pytest.approx(1 / 2)


def test_a_case_without_history_has_no_last_item(make):
    data = make([[1, 2, 3]])
    split = make_split(data, LeaveOneOutConfig(), None)
    empty = Cases.single(data.items, np.array([0]), np.array([0]), np.array([0]))
    found = repeat_facts(data, type(split)(**{**split.__dict__, "test": empty}))
    assert found["targets_at_once"] == 0


def test_cases_by_hand(make):
    data = make([[1, 1, 1, 2, 1], [1, 1, 2, 3]])
    found = case_facts(data, make_split(data, LeaveOneOutConfig(), None), max_length=3)
    assert found == {"history_median": 3.5, "history_longest": 4, "beyond_length": 0.5, "popular_targets": 0.5}


def test_data_tell_hashes_and_steps_but_no_path(make):
    steps = [{"step": "read", "rows": 9, "users": 2, "items": 3}]
    files = {"a.csv": {"path": "/somewhere/a.csv", "size": 7, "sha256": "ab"}}
    found = data_facts(make([[1, 1, 1, 2, 1], [1, 1, 2, 3]], details={"cleaning": steps, "files": files}))
    assert found["filter_steps"] == steps
    assert found["raw_files"] == {"a.csv": {"size": 7, "sha256": "ab"}}
    assert (found["events_per_user_median"], found["events_per_user_most"]) == (4.5, 5)
    assert "somewhere" not in str(found)
