"""Raw ids in, numbers out; and what is said to a wrong one."""

from __future__ import annotations

import time

import numpy as np
import pytest

from recbench.cli.recommend.histories import batch_of, histories_of_users, near, seconds, typed_history
from recbench.core.errors import UserError


@pytest.fixture(scope="module")
def items(tiny_data):
    return tiny_data.item_table()["item"].to_list()


def test_a_user_has_all_events_or_those_before_the_test(tiny_data, tiny_split):
    name = tiny_data.user_ids()["user_id"][4]
    (whole,) = histories_of_users(tiny_data, tiny_split, [name])
    (before,) = histories_of_users(tiny_data, tiny_split, [name], as_in_test=True)
    assert np.array_equal(whole.items, tiny_data.items[tiny_data.offsets[4] : tiny_data.offsets[5]])
    assert np.array_equal(before.items, whole.items[:-1])


def test_batches_hold_the_latest_events_padded_right(tiny_data, items):
    histories = [typed_history(tiny_data, items[:5], ["1", "2", "3", "4", "9"]), typed_history(tiny_data, items[7:9])]
    batch = batch_of(histories, 3, has_behaviours=False)
    assert batch.items.tolist() == [[3, 4, 5], [8, 9, 0]]
    assert batch.timestamps.tolist() == [[3, 4, 9], [0, 0, 0]]
    assert (batch.lengths.tolist(), batch.behaviours) == ([3, 2], None)
    assert set(batch.user.tolist()) == {tiny_data.n_users}  # nobody's number


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"items": []}, "the history is empty"),
        ({"items": ["i1x"]}, "unknown item 'i1x'; did you mean 'i"),
        ({"needs": {"timestamps"}}, r"the model reads timestamps.*--times"),
        ({"needs": {"behaviours"}}, r"the model reads behaviours.*--behaviours with any of .*view"),
        ({"times": ["1"]}, "1 timestamps for 2 items"),
        ({"times": ["5", "4"]}, "oldest event first"),
        ({"times": ["5", "soon"]}, "'soon' is no time"),
        ({"behaviours": ["view", "wiev"]}, "unknown behaviour 'wiev'; did you mean 'view'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tiny_data, items, given, message):
    with pytest.raises(UserError, match=message) as caught:
        typed_history(tiny_data, **{"items": items[:2], **given})
    assert "\n" not in str(caught.value)


def test_an_unknown_user_is_answered_with_the_nearest(tiny_data, tiny_split):
    known = tiny_data.user_ids()["user_id"][7]
    with pytest.raises(UserError, match=f"unknown user '{known}_'; did you mean '{known}'.*and 155 more"):
        histories_of_users(tiny_data, tiny_split, [f"{known}_"])


def test_of_a_million_names_the_nearest_is_found_soon():
    names = [f"B{number:09d}" for number in range(1_000_000)]
    started = time.perf_counter()
    said = near("B000123456x", names)
    assert time.perf_counter() - started < 10
    assert "did you mean 'B000123456'" in said
    assert said.endswith("and 999,995 more")


def test_times_are_numbers_or_dates():
    assert seconds(" 1700000000 ") == 1_700_000_000
    assert seconds("2026-01-31T18:00:00+00:00") == seconds("2026-01-31T18:00") == seconds("2026-01-31") + 18 * 3600
    with pytest.raises(UserError):
        seconds("1e9")
