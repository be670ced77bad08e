"""Adjusted p values and letters, against what is worked out by hand and what they promise."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbench.evaluation.statistics.families import benjamini_hochberg, holm, letters


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, and none falls below one before it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_benjamini_hochberg_by_hand():
    # Sorted .01 .02 .03 .5 times 4/1 4/2 4/3 4/4: .04 .04 .04 .5.
    assert benjamini_hochberg([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.04, 0.04])


def test_no_test_and_one_test():
    assert len(holm([])) == len(benjamini_hochberg([])) == 0
    assert holm([0.03]) == benjamini_hochberg([0.03]) == pytest.approx([0.03])


def test_p_never_exceeds_one():
    assert holm([0.9, 0.8]).max() == 1


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.booleans(), min_size=21, max_size=21))))
def test_two_share_a_letter_exactly_if_they_are_not_told_apart(drawn):
    n, answers = drawn
    different = np.zeros((n, n), dtype=bool)
    for (i, j), answer in zip(combinations(range(n), 2), answers, strict=False):
        different[i, j] = different[j, i] = answer
    given_letters = letters(different)
    assert all(given_letters)
    for i, j in combinations(range(n), 2):
        assert bool(set(given_letters[i]) & set(given_letters[j])) != different[i, j]


def test_more_groups_than_letters():
    given_letters = letters(~np.eye(30, dtype=bool))
    assert given_letters[0] == "a"
    assert given_letters[26] == "a2"
    assert len(set(given_letters)) == 30
