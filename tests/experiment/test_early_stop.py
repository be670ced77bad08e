"""The rule by which a trial is given up: the median of the finished ones at the same epoch, and of none that ran beside it."""

from __future__ import annotations

import json
import math

import pytest

from recbench.experiment.early_stop import Judge

METRIC = "validation/ndcg@10"


@pytest.fixture
def judge(tmp_path):
    """judge(curves, job, ...) with finished trials that have these validation curves; None is a trial that did not finish."""

    def make(curves, job, batch=1, after=1, startup=1):
        for number, curve in enumerate(curves):
            record = {"job": number, "status": 0}
            if curve is not None:
                folder = tmp_path / f"run{number}"
                folder.mkdir()
                epochs = [{} if value is None else {METRIC: value} for value in curve]
                (folder / "history.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
                record["folders"] = ["the floor", str(folder)]
            (tmp_path / f"job-{number:05d}.json").write_text(json.dumps(record))
        return Judge(tmp_path, job, batch, after, startup)

    return make


def test_below_the_median_at_the_same_epoch_is_given_up(judge):
    found = judge([[0.1, 0.5], [0.3, 0.2], [0.2, 0.9]], 3)
    assert "0.2000" in found.verdict([0.19], METRIC)
    assert found.verdict([0.2], METRIC) is None  # as good as the median goes on
    assert found.verdict([0.1, 0.49], METRIC) is not None  # medians of the best so far: 0.5, 0.3, 0.9
    assert found.verdict([0.1, 0.5], METRIC) is None


def test_with_nothing_to_compare_a_trial_goes_on(judge):
    assert judge([], 1).verdict([0.1], METRIC) is None


def test_a_trial_that_ended_earlier_counts_with_its_last_figure(judge):
    assert judge([[0.4]], 1).verdict([0.1, 0.2, 0.3], METRIC) is not None


def test_epochs_without_validation_count_with_the_best_figure_before_them(judge):
    assert judge([[None, 0.4, None, 0.6]], 1).rivals(METRIC) == [[-math.inf, 0.4, 0.4, 0.6]]


def test_every_trial_has_its_first_epochs_and_needs_enough_others(judge):
    found = judge([[0.5] * 5, [0.5] * 5, None], 3, after=3, startup=2)
    assert found.verdict([0.0, 0.0], METRIC) is None
    assert found.verdict([0.0, 0.0, 0.0], METRIC) is not None
    assert Judge(found.sweep_dir, 3, 1, 3, 3).verdict([0.0] * 4, METRIC) is None  # the third did not finish


@pytest.mark.parametrize(("job", "batch", "n"), [(2, 1, 2), (3, 2, 2), (4, 2, 3), (1, 4, 0)])
def test_only_trials_of_earlier_batches_are_looked_at(judge, job, batch, n):
    """Those that run beside a trial may be faster or slower than last time; the choice must not depend on it."""
    assert len(judge([[0.5], [0.5], [0.5]], job, batch).rivals(METRIC)) == n
