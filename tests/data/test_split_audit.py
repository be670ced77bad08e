"""The audit on data where every share can be counted by hand."""

import pytest

from recbench.data.protocol import LeaveOneOutConfig, TemporalConfig
from recbench.data.split import make_split
from recbench.data.split_audit import audit_line

ITEMS = [[1, 2, 3, 1], [2, 1, 3, 4], [1, 1], [2, 3, 2]]
TIMES = [[10, 20, 30, 30], [15, 25, 40, 60], [50, 50], [5, 5, 50]]


def test_leave_one_out_by_hand(make_data):
    found = make_split(make_data(ITEMS, TIMES), LeaveOneOutConfig(), None).audit
    # Training: 1@10 2@20, 2@15 1@25, 1@50 1@50, 2@5. Test targets: 1@30, 4@60, 2@50.
    assert found["training_events"] == 7
    assert (found["validation_cases"], found["test_cases"], found["test_targets"]) == (3, 3, 3)
    assert found["users_without_case"] == 1
    # 30 lies before the newest training event, 60 after it, 50 at it: as old is not older.
    assert found["leaked_targets"] == pytest.approx(1 / 3)
    assert found["later_training"] == pytest.approx((2 / 7 + 0 + 0) / 3)
    # Only user 0's target shares its time with the event before.
    assert found["tied_targets"] == pytest.approx(1 / 3)
    assert found["tied_events"] == pytest.approx(3 / 9)
    assert found["cold_targets"] == pytest.approx(1 / 3)
    assert found["repeated_targets"] == pytest.approx(2 / 3)


def test_a_first_event_is_not_tied_with_another_users_last(make_data):
    found = make_split(make_data([[1, 2, 3], [1, 2, 3]], [[1, 2, 9], [9, 10, 11]]), LeaveOneOutConfig(), None).audit
    assert found["tied_events"] == 0


def test_repeats_are_looked_for_in_the_history_and_not_in_the_window(make_data):
    # As one set, the targets 3 and 1 of user 0: 1 occurs before the cut, 3 only twice after it.
    data = make_data([[1, 2, 3, 3, 1], [1, 2, 2]], [[1, 12, 20, 21, 22], [1, 12, 13]])
    config = TemporalConfig(
        target="all", validation_date="1970-01-01T00:00:10", test_date="1970-01-01T00:00:20", seen_items="keep"
    )
    assert make_split(data, config, None).audit["repeated_targets"] == pytest.approx(1 / 2)


def test_line_is_one_line_with_the_shares(make_data):
    line = audit_line(make_split(make_data(ITEMS, TIMES), LeaveOneOutConfig(), None).audit)
    assert "\n" not in line
    assert line == (
        "3 test targets, 1 users without a target · leak: 33.3% of targets older than the newest training event, "
        "9.5% of training later than a target · ties in time: 33.3% of targets, 33.3% of events · cold: 33.3% · "
        "repeated: 66.7%"
    )


def test_without_timestamps_the_line_says_so(make_data):
    found = make_split(make_data(ITEMS), LeaveOneOutConfig(), None).audit
    assert "leak and ties unknown (no timestamps)" in audit_line(found)
    assert "tied_targets" not in found
