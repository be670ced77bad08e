"""Intervals of differences, against what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.evaluation.statistics.bootstrap import bootstrap, compare, resampled_totals
from recbench.evaluation.statistics.per_user import check_metric, mean_per_user, per_user


def ranks(path, rank, user=None, case=None):
    user = np.arange(len(rank)) if user is None else np.array(user)
    case = np.arange(len(rank)) if case is None else np.array(case)
    pl.DataFrame({"case": case, "user": user, "rank": np.array(rank, dtype=float)}).write_parquet(path)
    return path


def test_a_difference_that_is_the_same_for_every_user_has_no_width(tmp_path):
    # NDCG of rank 1 is 1, of rank 3 it is 1 / log2(4) = 0.5: twice as good whoever is drawn.
    found = compare([ranks(tmp_path / "a", [1] * 9)], [ranks(tmp_path / "b", [3] * 9)], "ndcg@10")
    assert found == pytest.approx((1.0, 1.0, 1.0))


def test_two_users_are_drawn_in_three_ways():
    # a = (3, 1), b = (1, 1): twice the first with chance 1/4 (+200 %), one of each 1/2 (+100 %), twice the second 1/4 (0 %).
    found = bootstrap(np.array([3.0, 1.0]), np.array([1.0, 1.0]))
    assert found == pytest.approx((1.0, 0.0, 2.0))


def test_the_interval_is_that_of_the_normal_approximation_for_many_users():
    # b is 1 for all, so the relative difference is the mean of a - 1; its standard error is sd / sqrt(n).
    generator = np.random.default_rng(3)
    a = 1.1 + generator.normal(0, 0.5, 4000)
    found = bootstrap(a, np.ones(4000))
    half = 1.96 * a.std() / np.sqrt(4000)
    assert found.relative == pytest.approx(a.mean() - 1)
    assert (found.low, found.high) == pytest.approx((found.relative - half, found.relative + half), abs=half / 8)


def test_it_is_paired():
    # Users differ a thousandfold from each other and hardly between the models: unpaired, nothing could be said.
    b = np.random.default_rng(1).lognormal(0, 2, 500)
    found = bootstrap(1.05 * b, b)
    assert found == pytest.approx((0.05, 0.05, 0.05))


def test_cases_of_one_user_are_drawn_together_and_seeds_are_averaged(tmp_path):
    first = ranks(tmp_path / "1", [1, 3, 2], user=[7, 7, 9])
    users, values, cases = per_user(first, "mrr")
    assert cases.tolist() == [2, 1]
    assert users.tolist() == [7, 9]
    assert values == pytest.approx([1 + 1 / 3, 1 / 2])
    second = ranks(tmp_path / "2", [11, 1, 2], user=[7, 7, 9])
    _, values = mean_per_user([first, second], "hr@10")
    assert values == pytest.approx([1.5, 1])


def test_several_targets_of_one_case_make_one_value(tmp_path):
    path = ranks(tmp_path / "a", [4, 2, 12], user=[0, 0, 1], case=[0, 0, 1])
    users, values, cases = per_user(path, "mrr@10")
    assert (users.tolist(), cases.tolist()) == ([0, 1], [1, 1])
    assert values == pytest.approx([0.5, 0])


def test_other_users_and_other_metrics_are_refused(tmp_path):
    a, b = ranks(tmp_path / "a", [1, 2]), ranks(tmp_path / "b", [1, 2], user=[5, 6])
    with pytest.raises(UserError, match="other users"):
        compare([a], [b], "ndcg@10")
    with pytest.raises(UserError, match="other users"):
        mean_per_user([a, b], "ndcg@10")
    with pytest.raises(UserError, match="user by user"):
        per_user(a, "coverage@10")


def test_a_reference_that_never_hits_gives_no_ratio(tmp_path):
    found = compare([ranks(tmp_path / "a", [1, 1])], [ranks(tmp_path / "b", [50, 60])], "hr@10")
    assert all(np.isnan(found))


def test_draws_are_those_of_a_loop_over_resamples():
    values = np.random.default_rng(1).random((50, 3))
    generator = np.random.default_rng(7)
    one_by_one = [values[generator.integers(0, 50, 50)].sum(axis=0) for _ in range(40)]
    assert resampled_totals(values, 40, seed=7) == pytest.approx(np.array(one_by_one))


def test_blocks_of_weights_change_no_draw(monkeypatch):
    values = np.random.default_rng(1).random((50, 3))
    whole = resampled_totals(values, 40, seed=7)
    monkeypatch.setattr("recbench.evaluation.statistics.bootstrap.BLOCK_WEIGHTS", 50 * 7)
    assert resampled_totals(values, 40, seed=7) == pytest.approx(whole, rel=1e-14)


@pytest.mark.parametrize("metric", ["hr", "recall@", "ndcg@0", "ndcg@ten", "mrr@-1"])
def test_a_metric_needs_a_sensible_cutoff(metric):
    with pytest.raises(UserError, match="cutoff from 1"):
        check_metric(metric)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "ranks.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"cannot read .*ranks.parquet"):
        per_user(tmp_path / "ranks.parquet", "mrr")
