"""Metrics of predicted clicks, from a label and a logit of each row. Each with its formula and an example that runs as a test.

    auc          chance that a row with a click stands above one without; equal logits count half (mid-ranks), so a constant has exactly .5
    gauc         mean over users of the AUC among their own rows, weighted by their rows; users with one label only are left out, and the share of
                 rows in the others stands beside it as ``gauc_rows``
    logloss      mean of -log p of what happened, p = sigma(logit)
    ne           log loss over that of the training rate: 1 is the constant model, less is better
    calibration  sum of p over number of clicks: 1 is right on the whole
    ece          mean distance of p from the rate of clicks, over EQUAL_BINS bins of equally many rows

The last four need logits that are log-odds. Shapes: N rows, U users.
"""

from __future__ import annotations

import numpy as np

from recbench.evaluation.statistics.per_user import UserValues, by_user

EQUAL_BINS = 20
#: What can be had user by user, for intervals and comparisons.
BY_USER = ("auc", "gauc", "logloss")
#: Metrics of which less is better.
LESS_IS_BETTER = ("logloss", "ne", "ece")
METRICS = ("auc", "gauc", "logloss", "ne", "calibration", "ece")


def mid_ranks(values: np.ndarray, group: np.ndarray | None = None) -> np.ndarray:
    """[N] rank of each value from 1, within its group [N] if there are groups; equal values share the mean of theirs.

    >>> mid_ranks(np.array([0.3, 0.1, 0.3])).tolist()
    [2.5, 1.0, 2.5]
    """
    group = np.zeros(len(values), np.int64) if group is None else group
    order = np.lexsort((values, group))
    sorted_values, sorted_groups = values[order], group[order]
    new_group = np.concatenate([[True], sorted_groups[1:] != sorted_groups[:-1]])
    new = new_group | np.concatenate([[True], sorted_values[1:] != sorted_values[:-1]])
    start = np.flatnonzero(new)
    length = np.diff(np.concatenate([start, [len(values)]]))
    group_start = np.flatnonzero(new_group)[np.cumsum(new_group) - 1]
    of_tie = np.repeat(start + (length + 1) / 2, length) - group_start
    ranks = np.empty(len(values))
    ranks[order] = of_tie
    return ranks


def auc(label: np.ndarray, logit: np.ndarray) -> float:
    """Of four pairs of a click and none, three are in order and one is a tie:

    >>> auc(np.array([1, 0, 1, 0]), np.array([0.9, 0.1, 0.4, 0.4]))
    0.875
    """
    clicks = int((label == 1).sum())
    others = len(label) - clicks
    return float((mid_ranks(logit)[label == 1].sum() - clicks * (clicks + 1) / 2) / (clicks * others))


def user_aucs(label: np.ndarray, logit: np.ndarray, user: np.ndarray) -> UserValues:
    """Users with both labels: totals are AUC times rows, cases their rows."""
    users, index, rows = np.unique(user, return_inverse=True, return_counts=True)
    clicks = np.bincount(index, weights=label == 1)
    ranks = np.bincount(index, weights=mid_ranks(logit, index) * (label == 1))
    others = rows - clicks
    both = (clicks > 0) & (others > 0)
    area = (ranks[both] - clicks[both] * (clicks[both] + 1) / 2) / (clicks[both] * others[both])
    return UserValues(users[both], area * rows[both], rows[both])


def losses(label: np.ndarray, logit: np.ndarray) -> np.ndarray:
    """[N] -log p of what happened.

    >>> losses(np.array([1, 0]), np.array([0.0, 0.0])).round(4).tolist()
    [0.6931, 0.6931]
    """
    return np.logaddexp(0.0, logit) - label * logit


def click_metrics(
    label: np.ndarray, logit: np.ndarray, user: np.ndarray, training_rate: float, log_odds: bool = True
) -> dict[str, float]:
    """All metrics by name. log_odds: whether logits are log-odds; else those that need them are left out."""
    of_users = user_aucs(label, logit, user)
    found = {"auc": auc(label, logit)}
    if len(of_users.users):
        found["gauc"] = float(of_users.totals.sum() / of_users.cases.sum())
    found["gauc_rows"] = float(of_users.cases.sum() / len(label))
    if not log_odds:
        return found
    p, mean = 1 / (1 + np.exp(-np.clip(logit, -60, 60))), float(losses(label, logit).mean())
    constant = np.log(training_rate / (1 - training_rate))
    return {
        **found,
        "logloss": mean,
        "ne": mean / float(losses(label, np.full(len(label), constant)).mean()),
        "calibration": float(p.sum() / label.sum()),
        "ece": expected_calibration_error(label, p),
    }


def expected_calibration_error(label: np.ndarray, p: np.ndarray) -> float:
    """
    >>> float(expected_calibration_error(np.array([1.0, 0.0]), np.array([0.5, 0.5])))
    0.5
    """
    order = np.argsort(p, kind="stable")
    bins = [part for part in np.array_split(order, EQUAL_BINS) if len(part)]
    return float(sum(len(part) * abs(p[part].mean() - label[part].mean()) for part in bins) / len(label))


def click_values(metric: str, label: np.ndarray, logit: np.ndarray, user: np.ndarray) -> UserValues:
    """A metric of BY_USER, user by user, so that the sum of totals over that of cases is the metric.

    AUC is no mean over users, but to first order it is one: a row's share is its place among the rows of the other label less the AUC (the influence
    function), which is summed by user [DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988].
    """
    if metric == "gauc":
        return user_aucs(label, logit, user)
    if metric == "logloss":
        return by_user(losses(label, logit), user)
    area, ranks = auc(label, logit), mid_ranks(logit)
    share = np.empty(len(label))
    for which in (1, 0):
        own = label == which
        among_own = mid_ranks(logit[own])
        below = (ranks[own] - among_own) / (~own).sum()
        share[own] = ((below if which else 1 - below) - area) / own.sum()
    return by_user(area + len(label) * share, user)
