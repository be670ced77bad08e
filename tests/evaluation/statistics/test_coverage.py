"""Do the intervals hold what they should, as often as they should? Simulated users, seeds and models whose true means are known.

With 500 simulated pairs the share of intervals that hold the truth is itself known to +- 1.9 points (two standard errors), a false-positive
rate of 5 % likewise; the limits below are those asked for, the seeds fixed.
"""

from __future__ import annotations

import numpy as np
import pytest

from recbench.evaluation.statistics.compare import judge_values

GAIN = 1 / np.log2(np.arange(10) + 2)
#: Mean chance of a hit, and so the metric's true mean.
CHANCE = 0.05 + 0.5 / 5
TRUTH = CHANCE * GAIN.mean()


def world(generator, users, seeds, deviation, qualities, alike=0.6):
    """NDCG-like totals [S, U] a model: most are zero, users differ, models agree on many, a seed raises or lowers all chances of its model."""
    chance = 0.05 + 0.5 * generator.beta(1, 4, users)
    shared = generator.random(users)
    models = []
    for quality in qualities:
        effect = 1 + deviation * generator.standard_normal((seeds, 1))
        luck = np.where(generator.random((seeds, users)) < alike, shared, generator.random((seeds, users)))
        models.append((luck < chance * quality * effect) * GAIN[generator.integers(0, 10, (seeds, users))])
    return models


def coverage(pairs, users, seeds, deviation, resamples, quality=1.15):
    """Shares of intervals that hold the true relative difference and the true mean."""
    generator = np.random.default_rng(1)
    held = np.zeros(2)
    for i in range(pairs):
        totals = world(generator, users, seeds, deviation, (quality, 1.0))
        verdicts = judge_values(["a", "b"], totals, np.ones(users), 1, resamples, seed=i)
        (a,) = [verdict for verdict in verdicts if verdict.name == "a"]
        assert a.relative_low is not None
        assert a.relative_high is not None
        held += [a.relative_low <= quality - 1 <= a.relative_high, a.low <= quality * TRUTH <= a.high]
    return held / pairs


def false_positives(families, users, seeds, deviation, resamples=200, models=6):
    """Share of families of equal models in which any two are told apart, and in which any differs from the reference."""
    generator = np.random.default_rng(2)
    found = np.zeros(2)
    for i in range(families):
        totals = world(generator, users, seeds, deviation, [1.0] * models)
        verdicts = judge_values([str(m) for m in range(models)], totals, np.ones(users), 0, resamples, seed=i)
        found += [
            len({verdict.group for verdict in verdicts}) > 1,
            any(verdict.p_holm is not None and verdict.p_holm < 0.05 for verdict in verdicts),
        ]
    return found / families


def test_intervals_cover_and_families_hold_their_level():
    # The quick twin: 500 pairs of models with one seed each, 250 families.
    of_difference, of_mean = coverage(500, users=300, seeds=1, deviation=0, resamples=300)
    assert 0.93 <= of_difference <= 0.97
    assert 0.93 <= of_mean <= 0.97
    assert (false_positives(250, users=200, seeds=1, deviation=0) <= 0.05).all()


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "deviation"), [(3, 0.1), (3, 0.2), (5, 0.1)])
def test_they_do_with_seeds_that_differ(seeds, deviation):
    of_difference, of_mean = coverage(500, users=400, seeds=seeds, deviation=deviation, resamples=500)
    assert 0.93 <= of_difference <= 0.97
    assert 0.93 <= of_mean <= 0.97
    assert (false_positives(500, users=400, seeds=seeds, deviation=deviation) <= 0.05).all()


@pytest.mark.slow
def test_seeds_that_differ_by_noise_alone_err_on_the_safe_side():
    of_difference, of_mean = coverage(500, users=400, seeds=3, deviation=0, resamples=500)
    assert 0.95 <= of_difference <= 0.99
    assert 0.95 <= of_mean <= 0.98
    assert (false_positives(500, users=400, seeds=3, deviation=0) <= 0.05).all()


def test_seeds_left_out_of_account_would_not_cover():
    # What the seeds' part is for: without it, models that differ by their seeds alone look different far too often.
    generator = np.random.default_rng(3)
    apart = 0
    for i in range(60):
        totals = world(generator, 2000, 3, 0.2, (1.0, 1.0))
        verdicts = judge_values(["a", "b"], [t.mean(axis=0)[None] for t in totals], np.ones(2000), 1, 200, seed=i)
        apart += len({verdict.group for verdict in verdicts}) > 1
    assert apart > 15
