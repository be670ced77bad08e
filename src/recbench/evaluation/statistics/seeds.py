"""How much of a metric's doubt comes from the seed, beside that from the users.

Users and seeds cross: every seed of a model ranks the same users. With the value of user u under seed s as

    y_su = mean + a_u + b_s + c_su,      c: what a seed does for one user and not for another, and all other noise,

seed means spread by var(b) + var(c) / U, and the mean over the seeds of a user, which is what the bootstrap draws, holds var(c) / S
already. So the seeds add var(b) / S to the variance of the mean, with var(b) = var(seed means) - var(c) / U from the two-way analysis
of variance [Searle, Casella and McCulloch, Variance Components, 1992, chapter 4]. Adding the plain variance of seed means would count
the noise twice: it alone makes two seeds of one model differ.

Drawing seeds with replacement as well, as the Multi-Bootstrap does [Sellam et al., ICLR 2022], says the same for many seeds; for the
three to five that people run it understates their variance by a factor (S - 1) / S and knows nothing of the doubt in it. That doubt is
met with Student's t instead (``recbench.evaluation.statistics.panel``).

Shapes: M models, S seeds, U users.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class SeedSpread(NamedTuple):
    """seeds: how many. deviation: standard deviation of the metric over seeds, None for one seed.

    between: estimate of var(b), the variance of a seed's own effect; negative where the seeds differ less than the noise in them would
    have it; 0 for one seed, which tells nothing of others.
    """

    seeds: int
    deviation: float | None
    between: float


def seed_spread(totals: np.ndarray, cases: np.ndarray) -> SeedSpread:
    """totals [S, U]: each seed's sum over the user's cases [U]."""
    seeds, users = totals.shape
    if seeds == 1:
        return SeedSpread(1, None, 0.0)
    # Of a ratio of sums, what each user moves it by: the mean of the row is that seed's metric less the metric over all.
    moved = (totals - totals.sum() / (seeds * cases.sum()) * cases) / cases.mean()
    of_seed = moved.mean(axis=1, keepdims=True)
    of_means = float(of_seed.var(ddof=1))
    rest = moved - of_seed - moved.mean(axis=0)
    noise = float((rest**2).sum()) / ((seeds - 1) * (users - 1))
    return SeedSpread(seeds, float(np.sqrt(of_means)), of_means - noise / users)


class SeedVariance(NamedTuple):
    """What seeds add to the variance of each model's mean [M], and its degrees of freedom [M]."""

    variance: np.ndarray
    freedom: np.ndarray


def own_variance(spreads: Sequence[SeedSpread]) -> SeedVariance:
    """By each model's own seeds."""
    seeds = np.array([spread.seeds for spread in spreads])
    between = np.array([spread.between for spread in spreads])
    return SeedVariance(np.maximum(between, 0.0) / seeds, np.maximum(seeds - 1.0, 1.0))


def guarded_variance(spreads: Sequence[SeedSpread]) -> SeedVariance:
    """For comparisons: of models with several seeds, each model's own, but at least the average over them.

    That of three seeds is often far too small by chance. Among many pairs those are the ones that would be told apart: with six equal models
    of three seeds, in 7 to 10 % of tables instead of the 5 % that are meant.
    """
    seeds = np.array([spread.seeds for spread in spreads])
    between = np.array([spread.between for spread in spreads])
    weight = seeds - 1.0
    pooled = max(0.0, float(weight @ between / weight.sum())) if weight.any() else 0.0
    lifted = (between < pooled) & (seeds > 1)
    variance = np.where(lifted, pooled, np.maximum(between, 0.0)) / seeds
    return SeedVariance(variance, np.where(lifted, weight.sum(), np.maximum(weight, 1.0)))
