"""Users drawn anew, thousands of times, for all models at once.

A resample draws as many users as there are, with replacement; what it says of a model depends only on how often each user was drawn.
So a resample is a row of weights, and the totals of all models in all resamples are one product of weights with values. Every model is
averaged over the same draws, which is what makes the comparison a paired one.

Shapes: U users, K columns (models, or models and seeds), R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recbench.core.errors import UserError
from recbench.evaluation.statistics.per_user import mean_per_user

#: Resamples of the two-model comparison; the ends of a 95 % interval then move by about a twentieth of its width from one seed to another.
RESAMPLES = 1000
#: Weights held at a time (8 MiB): they stay near the processor while they are multiplied.
BLOCK_WEIGHTS = 1 << 20


class Difference(NamedTuple):
    """Relative difference of means (a - b) / b, and the ends of its 95 % interval."""

    relative: float
    low: float
    high: float


def resampled_totals(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """[R, K]: the sums of the columns of values [U, K] over each resample of the users. The same draws for equal U and seed."""
    generator = np.random.default_rng(seed)
    n = len(values)
    rows = max(1, min(resamples, BLOCK_WEIGHTS // n))
    weights, totals = np.empty((rows, n)), np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, rows):
        block = weights[: resamples - start]
        for row in block:
            row[:] = np.bincount(generator.integers(0, n, n), minlength=n)
        np.matmul(block, values, out=totals[start : start + len(block)])
    return totals


def bootstrap(a: np.ndarray, b: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """Relative difference of the means of a and b [U], paired by user, with its 95 % percentile interval.

    It speaks of other users, not of other seeds. NaN where b is zero throughout.
    """
    drawn = resampled_totals(np.column_stack([a, b]), resamples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(drawn[:, 1] != 0, (drawn[:, 0] - drawn[:, 1]) / drawn[:, 1], np.nan)
    low, high = np.nanpercentile(relative, [2.5, 97.5]) if np.isfinite(relative).any() else (np.nan, np.nan)
    below = float(b.sum())
    return Difference((float(a.sum()) - below) / below if below else float("nan"), float(low), float(high))


def compare(ours: Sequence[Path], reference: Sequence[Path], metric: str, resamples: int = RESAMPLES) -> Difference:
    """Two models by the ``ranks.parquet`` of their seeds, averaged per user. Raises UserError for different users."""
    users, a = mean_per_user(ours, metric)
    others, b = mean_per_user(reference, metric)
    if not np.array_equal(users, others):
        raise UserError(f"{ours[0]} ranks other users than {reference[0]}; compare runs of one data set and protocol")
    return bootstrap(a, b, resamples)
