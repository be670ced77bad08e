"""Several models on the same users: means, intervals and tests that speak of other users and of other seeds.

**Scheme.** Users are drawn with replacement, each with all cases, the same draws for every model [paired percentile bootstrap: Efron and
Tibshirani, 1993; Ihemelandu and Ekstrand, SIGIR 2023, found it to hold its level on recommenders, unlike the Wilcoxon and sign tests]. A
draw of a model is the mean over its seeds. What seeds add (``recbench.evaluation.statistics.seeds``) comes on top: an interval reaches as far as

    sqrt(u^2 + (t s)^2),      u: how far that of the users reaches, s^2: variance by seeds, t: quantile of Student's t

on either side [Howe, JASA 69, 1974; for unequal sides Zou and Donner, Statistics in Medicine 27, 2008]. The degrees of freedom of a
difference are Satterthwaite's [Biometrics Bulletin 2, 1946]. So where seeds agree as well as the noise in them allows, the interval is that
of the users, and where they do not, it is that of a t test over seeds. A p value is the level at which such an interval, with u from
the standard error over the draws, ends at zero; so it is not bounded by the number of resamples. In comparisons the seed variance of a
model is at least the average over the models (``guarded_variance``). Seeds of two models are taken as independent. A model with one seed
is judged as if other seeds gave the same.

Simulated (tests/statistics/test_coverage.py), 95 % intervals of a difference hold it in 95 to 97 % of cases for one seed, or where seeds
differ as much as users let a model differ; in up to 98.5 % where three seeds differ by noise alone.

Shapes: M models, S seeds, U users, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recbench.evaluation.statistics.bootstrap import resampled_totals
from recbench.evaluation.statistics.seeds import SeedSpread, SeedVariance, guarded_variance, own_variance, seed_spread

#: Share of intervals that hold what they estimate.
LEVEL = 0.95
#: Differences below this share of the means are rounding.
ROUNDING = 1e-12
#: p values are found between this and 1.
SMALLEST_P = 1e-300


@dataclass(frozen=True)
class Panel:
    """means [M]; draws [R, M]: the means over each resample of the users; spreads: of the seeds, by model."""

    means: np.ndarray
    draws: np.ndarray
    spreads: tuple[SeedSpread, ...]
    n_users: int

    @classmethod
    def of(cls, totals: Sequence[np.ndarray], cases: np.ndarray, resamples: int, seed: int) -> Panel:
        """totals: [S, U] a model, each seed's sum of the metric over the user's cases [U]. U is at least 2."""
        columns = [values.mean(axis=0) for values in totals]
        drawn = resampled_totals(np.column_stack([*columns, cases]).astype(np.float64), resamples, seed)
        return cls(
            means=np.array([values.sum() for values in columns]) / cases.sum(),
            draws=drawn[:, :-1] / drawn[:, -1:],
            spreads=tuple(seed_spread(values, cases) for values in totals),
            n_users=len(cases),
        )

    def interval(self, i: int) -> tuple[float, float]:
        """The ends of the interval of a model's mean."""
        own = own_variance(self.spreads)
        return self._ends(self.draws[:, i], float(self.means[i]), float(own.variance[i]), float(own.freedom[i]))

    def relative(self, i: int, j: int) -> tuple[float, float, float] | None:
        """(difference of i to j as a share of j, the ends of its interval); None where j is, or might as well be, zero."""
        below = self.draws[:, j]
        if self.means[j] <= 0 or below.min() <= 0:
            return None
        ratio = float(self.means[i] / self.means[j])
        # To first order, a change of either mean by x moves the ratio by x / b and by ratio * x / b.
        variance, freedoms = self._guarded
        own, others = variance[i] / self.means[j] ** 2, variance[j] * (ratio / self.means[j]) ** 2
        freedom = satterthwaite(own, freedoms[i], others, freedoms[j])
        return ratio - 1, *self._ends(self.draws[:, i] / below - 1, ratio - 1, float(own + others), float(freedom))

    def p_values(self) -> np.ndarray:
        """[M, M]: two-sided p values of the differences of means, 1 on the diagonal."""
        first, second = np.triu_indices(len(self.means), 1)
        variances, freedoms = self._guarded
        difference = np.abs(self.means[first] - self.means[second])
        difference[difference <= ROUNDING * np.abs(self.means).max()] = 0.0
        covariance = np.atleast_2d(np.cov(self.draws, rowvar=False))
        by_users = covariance[first, first] + covariance[second, second] - 2 * covariance[first, second]
        # A bootstrap's variance is (U - 1) / U of what it estimates.
        by_users = np.maximum(by_users, 0.0) * self.n_users / (self.n_users - 1)
        by_seeds = variances[first] + variances[second]
        freedom = satterthwaite(variances[first], freedoms[first], variances[second], freedoms[second])
        p = np.ones((len(self.means), len(self.means)))
        p[first, second] = p[second, first] = two_sided(difference, by_users, self.n_users - 1, by_seeds, freedom)
        return p

    @cached_property
    def _guarded(self) -> SeedVariance:
        return guarded_variance(self.spreads)

    def _ends(self, draws: np.ndarray, estimate: float, by_seeds: float, freedom: float) -> tuple[float, float]:
        from scipy.stats import t

        tail = (1 - LEVEL) / 2
        low, high = np.quantile(draws, [tail, 1 - tail])
        if not by_seeds:
            return float(low), float(high)
        reach = t.isf(tail, freedom) * np.sqrt(by_seeds)
        return estimate - float(np.hypot(estimate - low, reach)), estimate + float(np.hypot(high - estimate, reach))


def satterthwaite(a: np.ndarray, a_freedom: np.ndarray, b: np.ndarray, b_freedom: np.ndarray) -> np.ndarray:
    """Degrees of freedom of the sum of two estimated variances; 1 where both are zero.

    >>> float(satterthwaite(np.array(2.0), np.array(4), np.array(2.0), np.array(4)))
    8.0
    """
    below = a**2 / a_freedom + b**2 / b_freedom
    return np.where(below > 0, (a + b) ** 2 / np.where(below > 0, below, 1.0), 1.0)


def two_sided(
    difference: np.ndarray, by_users: np.ndarray, users_freedom: float, by_seeds: np.ndarray, seeds_freedom: np.ndarray
) -> np.ndarray:
    """p values [T] of differences with two variances, by the interval of the file's head: the p for which its half width is the difference.

    >>> two_sided(np.array([0.0, 1.96]), np.ones(2), 1e9, np.zeros(2), np.ones(2)).round(3).tolist()
    [1.0, 0.05]
    """
    from scipy.stats import t

    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(difference > 0, 2 * t.sf(difference / np.sqrt(by_users), users_freedom), 1.0)
    both = np.flatnonzero((difference > 0) & (by_seeds > 0))
    if not len(both):
        return p
    low, high = np.full(len(both), np.log(SMALLEST_P)), np.zeros(len(both))
    for _ in range(48):  # halves the range of log p to below 1e-11
        middle = (low + high) / 2
        tail = np.exp(middle) / 2
        reach = (
            by_users[both] * t.isf(tail, users_freedom) ** 2 + by_seeds[both] * t.isf(tail, seeds_freedom[both]) ** 2
        )
        # Where the interval is too narrow to reach zero, p is smaller.
        narrow = reach < difference[both] ** 2
        low, high = np.where(narrow, low, middle), np.where(narrow, middle, high)
    p[both] = np.exp((low + high) / 2)
    return p
