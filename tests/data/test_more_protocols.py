"""leave_k_out, fixed_date and user_folds: exact arrays on hand-made data, what training may not hold, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from recbench.core.errors import UserError
from recbench.data.protocol import FixedDateConfig, LeaveKOutConfig, UserFoldsConfig
from recbench.data.split import make_split
from recbench.data.training import TrainingData

DAY = 86_400


def asked(cases):
    """(user, history, targets) of each case, by position."""
    return [
        (int(cases.user[c]), list(range(cases.start[c], cases.end[c])), cases.target_positions[slice(*cases.target_offsets[c : c + 2])].tolist())
        for c in range(len(cases))
    ]  # fmt: skip


def test_leave_two_out_by_hand(make_data):
    data = make_data([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4]], n_items=6)
    split = make_split(data, LeaveKOutConfig(k=2), None)
    assert split.protocol_id == "leave_2_out-all-full-mask-v1"
    assert (split.train_start.tolist(), split.train_end.tolist()) == ([0, 6], [2, 10])
    assert asked(split.validation) == [(0, [0, 1], [2, 3])]
    assert asked(split.test) == [(0, [0, 1, 2, 3], [4, 5])]
    assert split.audit["users_with_fewer_than_5_events"] == 1
    each = make_split(data, LeaveKOutConfig(k=2, target="successive"), None)
    assert asked(each.test) == [(0, [0, 1, 2, 3], [4]), (0, [0, 1, 2, 3, 4], [5])]
    both = make_split(data, LeaveKOutConfig(k=2, fit_on_validation=True), None)
    assert both.train_end.tolist() == [4, 10]


def test_a_fixed_date_by_hand(make_data):
    days = [[0, 10, 15, 20, 21, 30], [18, 22], [25, 40]]
    data = make_data([[1, 2, 3, 4, 5, 6], [1, 2], [3, 4]], [[DAY * day for day in user] for user in days], n_items=6)
    split = make_split(data, FixedDateConfig(date="1970-01-21", test_days=5), None)
    assert split.protocol_id == "fixed_date-d19700121-t5-last-full-mask-v1"
    # Day 20 is in the test; validation is as long as it, from day 15.
    assert split.train_end.tolist() == [2, 6, 8]
    assert asked(split.validation) == [(0, [0, 1], [2])]
    assert asked(split.test) == [(0, [0, 1, 2, 3], [4]), (1, [6], [7])]
    assert split.audit["events_after_test"] == 3
    open_end = make_split(data, FixedDateConfig(date="1970-01-21", validation_days=6, target="all"), None)
    assert open_end.protocol_id == "fixed_date-d19700121-v6-all-full-mask-v1"
    assert asked(open_end.test)[0] == (0, [0, 1, 2], [3, 4, 5])
    with pytest.raises(UserError, match="the data run from 1970-01-01 to 1970-02-10"):
        make_split(data, FixedDateConfig(date="1971-01-01"), None)


@pytest.mark.parametrize("target", ["last", "rest"])
def test_folds_ask_everybody_once_and_train_on_nobody_they_ask(random_data, target):
    seen, ids = [], set()
    for fold in range(4):
        split = make_split(random_data, UserFoldsConfig(folds=4, fold=fold, target=target), None)
        user, _, _ = TrainingData.of(random_data, split).flat()
        held = {*split.test.user.tolist(), *split.validation.user.tolist()}
        assert not held & set(user.tolist())
        assert not set(split.test.user.tolist()) & set(split.validation.user.tolist())
        seen += split.test.user.tolist()
        ids.add(split.protocol_id)
        assert split.audit["training_events"] == len(user)
        if target == "rest":
            lengths = random_data.lengths()[split.test.user]
            shown = split.test.end - split.test.start
            assert (np.abs(shown - 0.8 * lengths) <= 1).all()
    assert sorted(seen) == list(range(random_data.n_users))
    assert len(ids) == 4
    again = make_split(random_data, UserFoldsConfig(folds=4, fit_on_validation=True), None)
    assert not set(TrainingData.of(random_data, again).flat()[0].tolist()) & set(again.test.user.tolist())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LeaveKOutConfig(k=0), "protocol.k=0"),
        (FixedDateConfig(), "protocol.date is missing"),
        (FixedDateConfig(date="soon"), "no[t]? an ISO date|is not an ISO date"),
        (FixedDateConfig(date="2014-01-01", test_days=0), "test_days=0"),
        (UserFoldsConfig(folds=2), "at least 3"),
        (UserFoldsConfig(fold=5), "0..4"),
        (UserFoldsConfig(known=1.0), "between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(config, message):
    with pytest.raises(UserError, match=message):
        config.validate()


def test_a_date_needs_a_clock(make_data):
    with pytest.raises(UserError, match="needs timestamps"):
        make_split(make_data([[1, 2, 3]] * 4, n_items=5), FixedDateConfig(date="2014-01-01"), None)
