"""Finished runs judged against each other: ``judge``. What is drawn, and from which sources, is told in ``recbench.evaluation.statistics.panel``.

Two families are adjusted, each by itself: the comparisons with the reference (``p_holm``, ``p_fdr``), and, for the letters, all pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recbench.core.errors import UserError, nearest
from recbench.core.run_folder import RunFolder
from recbench.evaluation.clicks import LESS_IS_BETTER
from recbench.evaluation.statistics.answers import check_answers, user_answers
from recbench.evaluation.statistics.families import benjamini_hochberg, holm, letters
from recbench.evaluation.statistics.panel import LEVEL, Panel
from recbench.evaluation.statistics.per_user import UserValues, same_users

#: Holm's p value below which two entrants are told apart.
ALPHA = 1 - LEVEL


@dataclass(frozen=True)
class Entrant:
    """A configuration and the folders of its finished runs, one a seed."""

    name: str
    runs: tuple[Path, ...]


@dataclass(frozen=True)
class Verdict:
    """What is known of an entrant.

    mean: the metric over cases and seeds, with its 95 % interval low .. high, of users and seeds. seed_deviation: standard deviation over
    seeds, None for one. relative: difference to the reference as a share of the reference's mean, with its interval; p: of no difference,
    p_holm and p_fdr the same, adjusted for all comparisons with the reference; None for the reference itself and without one, the relative
    ones too where the reference's mean might be zero. group: letters; entrants that share one are not told apart (all pairs, Holm, 5 %).
    """

    name: str
    mean: float
    low: float
    high: float
    seed_deviation: float | None
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    p: float | None
    p_holm: float | None
    p_fdr: float | None
    group: str
    n_seeds: int
    n_users: int


def judge(
    entrants: Sequence[Entrant], metric: str, reference: str | None = None, resamples: int = 10_000, seed: int = 0
) -> list[Verdict]:
    """Verdicts on a metric such as ``ndcg@10`` or ``mrr``, best mean first.

    reference: the name of the entrant that the others are compared with. Raises UserError for runs that are unfinished or rank nothing,
    for different protocol ids, data or user sets, for a run that is given twice, and for an unknown metric or reference.
    """
    _check_entrants(entrants, reference, resamples)
    folders = [path for entrant in entrants for path in entrant.runs]
    ranks = [RunFolder(path).answers for path in folders]
    check_answers(metric, ranks)
    check_comparable(folders)
    values = [user_answers(path, metric) for path in ranks]
    same_users(values, ranks)
    totals = _totals(entrants, values)
    names = [entrant.name for entrant in entrants]
    place = None if reference is None else names.index(reference)
    return judge_values(names, totals, values[0].cases, place, resamples, seed, metric in LESS_IS_BETTER)


def judge_values(
    names: Sequence[str],
    totals: Sequence[np.ndarray],
    cases: np.ndarray,
    reference: int | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    less_is_better: bool = False,
) -> list[Verdict]:
    """As ``judge``, from arrays: for each name totals [S, U], each seed's sum of the metric over the user's cases [U].

    less_is_better: whether the best mean, which is the first and has the first letter, is the smallest.
    Raises UserError for fewer than two users.
    """
    if len(cases) < 2:
        raise UserError("one test user tells nothing of others; compare runs with more users")
    panel = Panel.of(totals, cases, resamples, seed)
    up = 1 if less_is_better else -1
    order = sorted(range(len(names)), key=lambda i: (up * panel.means[i], names[i]))
    p = panel.p_values()
    groups = dict(zip(order, letters(_told_apart(p)[np.ix_(order, order)]), strict=True))
    others = [i for i in range(len(names)) if i != reference] if reference is not None else []
    against = p[others, reference] if reference is not None else np.empty(0)
    tests = dict(zip(others, zip(against, holm(against), benjamini_hochberg(against), strict=True), strict=True))
    return [_verdict(names[i], panel, i, reference, tests, groups[i], len(totals[i])) for i in order]


def _verdict(
    name: str,
    panel: Panel,
    i: int,
    reference: int | None,
    tests: Mapping[int, tuple[float, float, float]],
    group: str,
    n_seeds: int,
) -> Verdict:
    ratio = panel.relative(i, reference) if reference is not None and i in tests else None
    relative, relative_low, relative_high = ratio or (None, None, None)
    p, p_holm, p_fdr = map(float, tests[i]) if i in tests else (None, None, None)
    low, high = panel.interval(i)
    return Verdict(
        name=name,
        mean=float(panel.means[i]),
        low=low,
        high=high,
        seed_deviation=panel.spreads[i].deviation,
        relative=relative,
        relative_low=relative_low,
        relative_high=relative_high,
        p=p,
        p_holm=p_holm,
        p_fdr=p_fdr,
        group=group,
        n_seeds=n_seeds,
        n_users=panel.n_users,
    )


def _told_apart(p: np.ndarray) -> np.ndarray:
    """[M, M] bool: pairs whose difference stands after Holm's adjustment over all pairs."""
    above = np.triu_indices(len(p), 1)
    apart = np.zeros(p.shape, dtype=bool)
    apart[above] = holm(p[above]) < ALPHA
    return apart | apart.T


def _totals(entrants: Sequence[Entrant], values: Sequence[UserValues]) -> list[np.ndarray]:
    """[S, U] an entrant, from the values of all runs in order."""
    left = iter(values)
    return [np.stack([next(left).totals for _ in entrant.runs]) for entrant in entrants]


def _check_entrants(entrants: Sequence[Entrant], reference: str | None, resamples: int) -> None:
    names = [entrant.name for entrant in entrants]
    if not names:
        raise UserError("there is nothing to compare; name the folders of finished runs")
    if len(set(names)) < len(names):
        raise UserError(f"two entrants have one name: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    if reference is not None and reference not in names:
        raise UserError(f"unknown reference '{reference}'; {nearest(reference, names)}")
    if resamples < 100:
        raise UserError(f"{resamples} resamples make no interval; use at least 100")
    paths = [Path(path).resolve() for entrant in entrants for path in entrant.runs]
    for entrant in entrants:
        if not entrant.runs:
            raise UserError(f"'{entrant.name}' has no run")
    if len(set(paths)) < len(paths):
        raise UserError(f"{next(path for path in paths if paths.count(path) > 1)} is given twice; give every run once")


def check_comparable(folders: Sequence[Path]) -> None:
    """Raise UserError unless the runs are finished, rank items, and were asked the same: one protocol id, one data set, one split."""
    first: dict[str, tuple[str, Path]] = {}
    for path in folders:
        folder = RunFolder(path)
        if not folder.finished:
            raise UserError(f"{path} holds no finished run (its state is '{folder.state}')")
        if not folder.answers.is_file():
            raise UserError(f"{path} ranks nothing, so there is nothing to compare; leave it out")
        made = folder.read("provenance.json")
        asked = {
            "protocol": folder.read("metrics.json").get("protocol"),
            "data": made.get("data_fingerprint"),
            "split": made.get("split_hash"),
        }
        for name, value in asked.items():
            if value is None:
                continue
            known, where = first.setdefault(name, (value, path))
            if known != value:
                raise UserError(
                    f"{where.name} was run on the {name} {known}, {path.name} on {value}: the two never share a table; compare runs "
                    "of one data set and protocol"
                )
