"""A metric user by user, from the ranks that a run stored.

A metric is a mean over cases (``recbench.evaluation.metrics``), and cases of one user are not independent of each other, so what is drawn
anew is a user with all cases. Shapes: T targets, U users.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recbench.core.errors import UserError, nearest
from recbench.evaluation.metrics import METRICS

#: Metrics that can be had user by user: those that are means over cases.
MEASURES = METRICS
#: Those that mean something without a cutoff.
WITHOUT_CUTOFF = ("mrr", "ndcg")


class UserValues(NamedTuple):
    """users [U] ascending; totals [U]: sum of the metric over the user's cases; cases [U]: how many those are."""

    users: np.ndarray
    totals: np.ndarray
    cases: np.ndarray


def check_metric(metric: str) -> tuple[str, float]:
    """(name, cutoff) of a metric such as ``ndcg@10`` or ``mrr``. Raises UserError for what is no mean over cases."""
    name, _, cutoff = metric.partition("@")
    if name not in MEASURES:
        raise UserError(f"{metric} cannot be compared user by user; {nearest(name, MEASURES)}, as in ndcg@10")
    if not cutoff and "@" not in metric and name in WITHOUT_CUTOFF:
        return name, float("inf")
    if not cutoff.isdigit() or int(cutoff) < 1:
        raise UserError(f"{metric} lacks a cutoff from 1; write it as in {name}@10")
    return name, float(cutoff)


def user_values(metric: str, rank: np.ndarray, case: np.ndarray, user: np.ndarray) -> UserValues:
    """The metric of every user, from rank, case and user of every target [T]. Raises UserError for an unknown metric.

    User 4 has two cases, at ranks 1 and 2, user 7 one at rank 4:

    >>> found = user_values("mrr", np.array([1.0, 2.0, 4.0]), np.array([0, 1, 2]), np.array([4, 4, 7]))
    >>> [column.tolist() for column in found]
    [[4, 7], [1.5, 0.25], [2, 1]]
    """
    name, cutoff = check_metric(metric)
    values = MEASURES[name](rank, case, cutoff)
    _, first = np.unique(case, return_index=True)
    return by_user(values, user[first])


def by_user(values: np.ndarray, user: np.ndarray) -> UserValues:
    """Values of cases [C], each of a user [C], summed over the cases of a user."""
    users, index, cases = np.unique(user, return_inverse=True, return_counts=True)
    return UserValues(users, np.bincount(index, weights=values, minlength=len(users)), cases)


def stores(ranks: Path, metric: str) -> bool:
    """Whether a ``ranks.parquet`` holds the values of a metric, such as one of another package, case by case."""
    import polars as pl

    try:
        return metric in pl.read_parquet_schema(ranks)
    except (OSError, pl.exceptions.PolarsError):
        return False


def check_measurable(metric: str, files: Sequence[Path]) -> None:
    """Raise UserError unless a metric can be had user by user from all files: because it is one of ours, or because each of them stores it."""
    lacking = [path for path in files if not stores(path, metric)]
    if lacking and len(lacking) < len(files):
        raise UserError(
            f"{lacking[0].parent.name} has no {metric}; make it once more with evaluation.metrics=[{metric.partition('@')[0]}], "
            "which trains nothing"
        )
    if lacking or not files:
        check_metric(metric)


def per_user(ranks: Path, metric: str) -> UserValues:
    """The metric of every user of a ``ranks.parquet``; cases without a value (nan) are left out, and users without any.

    Raises UserError for an unknown metric, a file that cannot be read, and a metric that no case has.
    """
    import polars as pl

    stored = stores(ranks, metric)
    if not stored:
        check_metric(metric)
    try:
        table = pl.read_parquet(ranks, columns=["rank", "case", "user", *([metric] if stored else [])])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"cannot read {ranks}: {str(error).splitlines()[0]}; delete the run and make it again"
        ) from error
    rank, case, user = (table[name].to_numpy() for name in ("rank", "case", "user"))
    if not stored:
        return user_values(metric, rank, case, user)
    _, first = np.unique(case, return_index=True)
    values, user = table[metric].to_numpy()[first], user[first]
    known = ~np.isnan(values)
    if not known.any():
        raise UserError(f"{ranks.parent.name} has no case with a {metric}; compare by another metric")
    return by_user(values[known], user[known])


def same_users(found: Sequence[UserValues], files: Sequence[Path]) -> None:
    """Raise UserError, naming two files, unless all hold the same users with the same numbers of cases."""
    for path, values in zip(files, found, strict=True):
        if not (np.array_equal(values.users, found[0].users) and np.array_equal(values.cases, found[0].cases)):
            raise UserError(f"{path} ranks other users than {files[0]}; compare runs of one data set and protocol")


def mean_per_user(files: Sequence[Path], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(users [U], totals [U] averaged over the seeds' files). Raises UserError where the files hold different users."""
    found = [per_user(path, metric) for path in files]
    same_users(found, files)
    return found[0].users, np.mean([values.totals for values in found], axis=0)
