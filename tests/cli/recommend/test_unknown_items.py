"""Items of a typed history that the data do not have: refused, or left out with their times when asked."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from recbench.cli.recommend.command import read_arguments
from recbench.cli.recommend.histories import typed_history
from recbench.core.errors import UserError


@pytest.fixture
def items(tiny_data):
    return tiny_data.item_table()["item"].to_list()[:3]


def test_skip_leaves_them_out_with_their_times_and_says_so(tiny_data, items, caplog):
    asked = [items[0], "gone", items[1], "lost", items[2]]
    with caplog.at_level(logging.WARNING, "recbench"):
        found = typed_history(tiny_data, asked, ["10", "20", "30", "40", "50"], unknown="skip")
    plain = typed_history(tiny_data, items, ["10", "30", "50"])
    assert np.array_equal(found.items, plain.items)
    assert found.times.tolist() == [10, 30, 50]
    assert caplog.messages == ["left out 2 of 5 events, of items that the data do not have: gone, lost"]


def test_without_it_the_first_is_named_with_the_way_out(tiny_data, items):
    with pytest.raises(UserError, match=r"unknown item 'gone'.*--unknown skip"):
        typed_history(tiny_data, [items[0], "gone"])


def test_a_history_of_nothing_known_is_refused(tiny_data):
    with pytest.raises(UserError, match="none of the 2 items of the history, such as 'gone'"):
        typed_history(tiny_data, ["gone", "lost"], unknown="skip")


def test_times_that_are_not_one_an_item_are_still_named(tiny_data, items):
    with pytest.raises(UserError, match="1 timestamps for 2 items"):
        typed_history(tiny_data, [items[0], "gone"], ["10"], unknown="skip")


def test_the_choice_is_a_word_of_the_command():
    assert read_arguments(["RUN", "--history", "a"]).unknown == "error"
    assert read_arguments(["RUN", "--history", "a", "--unknown", "skip"]).unknown == "skip"
    with pytest.raises(UserError, match="invalid choice"):
        read_arguments(["RUN", "--history", "a", "--unknown", "keep"])
