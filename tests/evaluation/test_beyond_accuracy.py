"""Coverage, Gini, popularity and novelty of lists."""

import numpy as np
import pytest

from recbench.evaluation.beyond_accuracy import beyond_accuracy, gini, novelty

COUNTS = np.array([99, 7, 3, 1, 0])  # index 0 is the pad and must not matter


def test_by_hand():
    lists = np.array([[1, 2], [1, 3], [1, 0]])  # the third user got one item only
    found = beyond_accuracy(lists, COUNTS, [1, 2])
    assert found["coverage@1"] == 1 / 4
    assert found["coverage@2"] == 3 / 4
    assert found["gini@1"] == 3 / 4
    # Exposures 0, 1, 1, 3: ((-3)(0) + (-1)(1) + (1)(1) + (3)(3)) / (4 * 5)
    assert found["gini@2"] == pytest.approx(9 / 20)
    assert found["mean_popularity@1"] == 7
    assert found["mean_popularity@2"] == pytest.approx((3 * 7 + 3 + 1) / 5)
    shares = np.array([8, 4, 2]) / 15
    assert found["novelty@2"] == pytest.approx(-(np.log2(shares) * [3, 1, 1]).sum() / 5)


def test_gini_equals_the_mean_difference_definition():
    shown = np.random.default_rng(0).integers(0, 50, 40)
    differences = np.abs(shown[:, None] - shown[None, :]).mean()
    assert gini(shown) == pytest.approx(differences / (2 * shown.mean()))
    assert gini(np.zeros(5, dtype=int)) == 0.0


def test_an_item_never_seen_is_novel_and_finite():
    assert np.isfinite(novelty(np.array([0, 0, 0, 1]), COUNTS[1:]))
    assert novelty(np.array([0, 0, 0, 1]), COUNTS[1:]) > novelty(np.array([1, 0, 0, 0]), COUNTS[1:])


def test_cutoffs_beyond_list_and_catalogue():
    lists = np.array([[1, 2, 3, 4]])
    assert beyond_accuracy(lists, COUNTS, [50])["coverage@50"] == 1.0
    with pytest.raises(ValueError, match="too short for cutoff 3"):
        beyond_accuracy(lists[:, :2], COUNTS, [3])
