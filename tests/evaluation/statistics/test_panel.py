"""Where users' and seeds' shares of the doubt can be worked out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from recbench.evaluation.statistics.compare import judge_values
from recbench.evaluation.statistics.panel import two_sided
from recbench.evaluation.statistics.seeds import guarded_variance, own_variance, seed_spread


def test_seeds_that_move_all_users_alike_have_the_variance_of_their_means():
    users = np.random.default_rng(1).random(50)
    spread = seed_spread(np.stack([users + 0.1, users + 0.2, users + 0.3]), np.ones(50))
    assert spread.deviation == pytest.approx(0.1)
    assert spread.between == pytest.approx(0.01)


def test_noise_that_seeds_and_users_share_is_not_counted_as_the_seeds_own():
    generator = np.random.default_rng(1)
    found = [seed_spread(generator.random((5, 400)), np.ones(400)).between for _ in range(200)]
    # The seed means differ, with variance 1 / 12 / 400 = 2e-4, but by noise alone.
    assert abs(np.mean(found)) < 3e-5


def test_one_seed_tells_nothing_of_others():
    assert seed_spread(np.ones((1, 9)), np.ones(9)) == (1, None, 0.0)


def test_a_spread_of_ratios_counts_cases():
    # Seed means per case: 6 / 6 and 12 / 6.
    spread = seed_spread(np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]), np.array([1, 2, 3]))
    assert spread.deviation == pytest.approx(np.std([1, 2], ddof=1))


def test_the_guard_lifts_small_variances_and_leaves_large_and_unknown_ones():
    users = np.zeros(30)
    still, moving = np.stack([users, users, users]), np.stack([users - 1, users, users + 1])
    spreads = [seed_spread(values, np.ones(30)) for values in (still, moving, users[None])]
    assert own_variance(spreads).variance == pytest.approx([0, 1 / 3, 0])
    guarded = guarded_variance(spreads)
    assert guarded.variance == pytest.approx([0.5 / 3, 1 / 3, 0])
    assert guarded.freedom == pytest.approx([4, 2, 1])


def test_p_is_that_of_a_t_test_where_only_seeds_or_only_users_vary():
    difference, one = np.array([3.0]), np.ones(1)
    seeds_alone = two_sided(difference, 0 * one, 1000, one, 4 * one)
    assert seeds_alone == pytest.approx([2 * t.sf(3, 4)], rel=1e-6)
    assert two_sided(difference, one, 1000, 0 * one, one) == pytest.approx([2 * t.sf(3, 1000)])
    assert two_sided(difference, one, 1000, one, 4 * one)[0] > seeds_alone[0]


def test_an_interval_ends_at_zero_where_p_is_a_twentieth():
    half = np.sqrt(t.isf(0.025, 1000) ** 2 * 2 + t.isf(0.025, 4) ** 2 * 3)
    p = two_sided(np.array([half]), np.array([2.0]), 1000, np.array([3.0]), np.array([4.0]))
    assert p == pytest.approx([0.05])


def test_with_one_seed_the_interval_is_the_percentile_of_the_users_draws():
    # Users of value 3 and 1: both 3 with chance 1/4, both 1 with 1/4.
    (only,) = judge_values(["a"], [np.array([[3.0, 1.0]])], np.ones(2))
    assert (only.mean, only.low, only.high) == (2, 1, 3)
    assert (only.group, only.relative, only.p, only.seed_deviation) == ("a", None, None, None)


def test_seeds_widen_an_interval_by_students_t():
    users = np.full(40, 0.5)
    (only,) = judge_values(["a"], [np.stack([users - 0.1, users, users + 0.1])], np.ones(40))
    assert only.high - only.mean == pytest.approx(t.isf(0.025, 2) * 0.1 / np.sqrt(3))


def test_equal_models_are_one_group_and_a_constant_gap_is_another():
    users = np.random.default_rng(2).random((1, 60))
    verdicts = judge_values(["a", "b", "c"], [users, users.copy(), users + 0.01], np.ones(60), 0)
    assert [(v.name, v.group) for v in verdicts] == [("c", "a"), ("a", "b"), ("b", "b")]
    by_name = {v.name: v for v in verdicts}
    assert (by_name["b"].p, by_name["b"].relative) == (1, 0)
    assert by_name["c"].p_holm < 1e-10


def test_a_reference_of_zero_gives_no_ratio():
    verdicts = judge_values(["a", "zero"], [np.ones((1, 5)), np.zeros((1, 5))], np.ones(5), 1)
    assert verdicts[0].relative is None
    assert verdicts[0].p == 0


def test_users_count_by_their_cases():
    (only,) = judge_values(["a"], [np.array([[4.0, 0.0, 0.0]])], np.array([4, 3, 1]))
    assert only.mean == 0.5
    assert only.high == 1


def test_where_less_is_better_the_smallest_mean_is_first_and_has_the_first_letter():
    noise = np.random.default_rng(0).normal(size=(1, 200))
    totals = [noise + 3, noise, noise + 1]
    found = judge_values(["much", "little", "some"], totals, np.ones(200), resamples=200, less_is_better=True)
    assert [(verdict.name, verdict.group) for verdict in found] == [("little", "a"), ("some", "b"), ("much", "c")]
