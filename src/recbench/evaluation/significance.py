"""How sure a difference between two models is, from their ranks on the same users.

The interval is a paired percentile bootstrap over users: users are drawn with replacement, both models are averaged over the same draw,
and the relative difference is taken each time. Seeds are averaged per user before, so the interval speaks of other users, not of other seeds.

Shapes: T targets, U users, S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recbench.errors import UserError
from recbench.evaluation.metrics import hit_rate, ndcg, reciprocal_rank

#: Resamples; the ends of a 95 % interval then move by about a twentieth of its width from one seed to another.
RESAMPLES = 1000
MEASURES = {"ndcg": ndcg, "hr": hit_rate, "mrr": reciprocal_rank}


class Difference(NamedTuple):
    """Relative difference of means (a - b) / b, and the ends of its 95 % interval."""

    relative: float
    low: float
    high: float


def per_user(ranks: Path, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(user [U], sum of the metric over the user's cases [U]) from a ``ranks.parquet``; metric such as ``ndcg@10`` or ``mrr``."""
    import polars as pl

    name, _, cutoff = metric.partition("@")
    if name not in MEASURES:
        raise UserError(f"{metric} cannot be compared user by user; use one of: {', '.join(MEASURES)}")
    table = pl.read_parquet(ranks, columns=["case", "user", "rank"])
    case, user = table["case"].to_numpy(), table["user"].to_numpy()
    values = MEASURES[name](table["rank"].to_numpy(), case, float(cutoff or "inf"))
    _, first = np.unique(case, return_index=True)
    users, index = np.unique(user[first], return_inverse=True)
    return users, np.bincount(index, weights=values)


def mean_per_user(files: Sequence[Path], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(user [U], metric [U] averaged over the seeds' files). Raises UserError where the files hold different users."""
    found = [per_user(path, metric) for path in files]
    for path, (users, _) in zip(files, found, strict=True):
        if not np.array_equal(users, found[0][0]):
            raise UserError(f"{path} ranks other users than {files[0]}; compare runs of one data set and protocol")
    return found[0][0], np.mean([values for _, values in found], axis=0)


def bootstrap(a: np.ndarray, b: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """Relative difference of the means of a and b [U], paired by user, with its 95 % percentile interval.

    Both sides of every resample are the same users. NaN where b is zero throughout.
    """
    generator = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for i in range(resamples):
        chosen = generator.integers(0, len(a), len(a))
        drawn[i] = _relative(a[chosen], b[chosen])
    low, high = np.nanpercentile(drawn, [2.5, 97.5]) if np.isfinite(drawn).any() else (np.nan, np.nan)
    return Difference(_relative(a, b), float(low), float(high))


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    below = float(b.sum())
    return (float(a.sum()) - below) / below if below else float("nan")


def compare(ours: Sequence[Path], reference: Sequence[Path], metric: str, resamples: int = RESAMPLES) -> Difference:
    """Two models by the ``ranks.parquet`` of their seeds, one seed of each beside the other. Raises UserError for different users."""
    users, a = mean_per_user(ours, metric)
    others, b = mean_per_user(reference, metric)
    if not np.array_equal(users, others):
        raise UserError(f"{ours[0]} ranks other users than {reference[0]}; compare runs of one data set and protocol")
    return bootstrap(a, b, resamples)
