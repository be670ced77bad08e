"""Metrics of clicks against scikit-learn and against loops that are obviously right."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from recbench.evaluation import clicks
from recbench.evaluation.statistics.bootstrap import resampled_totals


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 400)
    logit = np.round(rng.normal(label, 1.5), 1)  # many ties
    return label, logit, rng.integers(0, 40, 400)


def test_auc_is_scikit_learns_with_ties_and_half_for_a_constant(rows):
    label, logit, _ = rows
    assert clicks.auc(label, logit) == pytest.approx(roc_auc_score(label, logit))
    assert clicks.auc(label, np.zeros(len(label))) == 0.5


def test_gauc_is_the_loop_over_users(rows):
    label, logit, user = rows
    total = n = 0
    for one in np.unique(user):
        own = user == one
        if len(np.unique(label[own])) == 2:
            total, n = total + own.sum() * roc_auc_score(label[own], logit[own]), n + own.sum()
    found = clicks.click_metrics(label, logit, user, 0.5)
    assert found["gauc"] == pytest.approx(total / n)
    assert found["gauc_rows"] == n / len(label)


def test_the_constant_model_has_ne_1_and_log_loss_is_scikit_learns(rows):
    label, logit, user = rows
    constant = clicks.click_metrics(label, np.full(len(label), np.log(0.3 / 0.7)), user, 0.3)
    assert (constant["ne"], constant["auc"]) == pytest.approx((1.0, 0.5))
    found = clicks.click_metrics(label, logit, user, 0.3)
    p = 1 / (1 + np.exp(-logit))
    assert found["logloss"] == pytest.approx(log_loss(label, p))
    assert found["calibration"] == pytest.approx(p.sum() / label.sum())
    assert "logloss" not in clicks.click_metrics(label, logit, user, 0.3, log_odds=False)


@pytest.mark.parametrize("metric", clicks.BY_USER)
def test_users_values_add_up_to_the_metric(metric, rows):
    found = clicks.click_values(metric, *rows)
    assert found.totals.sum() / found.cases.sum() == pytest.approx(clicks.click_metrics(*rows, 0.5)[metric])


def test_the_bootstrap_of_auc_spreads_as_the_auc_of_drawn_users_does(rows):
    label, logit, user = rows
    found = clicks.click_values("auc", *rows)
    drawn = resampled_totals(np.column_stack([found.totals, found.cases]), 400, seed=1)
    linear = drawn[:, 0] / drawn[:, 1]
    rng, real = np.random.default_rng(2), []
    members = [np.flatnonzero(user == one) for one in np.unique(user)]
    for _ in range(400):
        chosen = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        real.append(clicks.auc(label[chosen], logit[chosen]))
    assert np.std(linear) == pytest.approx(np.std(real), rel=0.15)
    assert np.mean(linear) == pytest.approx(np.mean(real), abs=0.005)


def test_the_order_of_rows_changes_nothing(rows):
    order = np.random.default_rng(3).permutation(len(rows[0]))
    first = clicks.click_metrics(*rows, 0.4)
    again = clicks.click_metrics(*(part[order] for part in rows), 0.4)
    # Bins of equal logits may be cut elsewhere.
    assert {k: v for k, v in again.items() if k != "ece"} == pytest.approx(
        {k: v for k, v in first.items() if k != "ece"}
    )
