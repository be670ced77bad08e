"""Metrics chosen with ``evaluation.metrics=[name]``: those of lists (``recbench.evaluation.lists``), and those that other packages add.

A package names them in the entry-point group ``recbench.metrics``: each entry is ``name = "package.module:function"``, a function that takes a
``RankedLists`` and a cutoff k and returns one number for each case. A metric is only ever computed from ranks and lists that are there, so it
is in no run's key: a finished run that lacks one is tested once more and keeps all its other figures.

Shapes: C cases, T targets, K length of a list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recbench.core.errors import UserError, nearest
from recbench.core.plug_ins import PlugIns
from recbench.evaluation.lists.families import FAMILIES
from recbench.evaluation.metrics import METRICS

#: Names that figures of a test have already, so that no package may give them another meaning.
TAKEN = (
    *METRICS,
    "coverage",
    "gini",
    "mean_popularity",
    "novelty",
    "invalid",
    "tied",
    "truncated",
    "cases",
    "skipped_cases",
)
PLUG_INS = PlugIns("recbench.metrics", "metric", (*TAKEN, *FAMILIES))


@dataclass(frozen=True)
class RankedLists:
    """What a metric reads, of one test.

    rank [T] float: of each target, from 1; halves where scores tie, infinite where a list ended before it. case [T] int: the row of
    ``lists`` that the target belongs to, 0..C-1, ascending. target [T] int: the target's item. history_length [T] int. lists [C, K] int: the
    best items of each case, best first, 0 where there is none; K is the largest cutoff, or the catalogue if that is shorter.
    training_counts [n_items + 1] int: how often each item occurs in training (0 for the pad). n_ranked: how many items each target was
    ranked among.
    """

    rank: np.ndarray
    case: np.ndarray
    target: np.ndarray
    history_length: np.ndarray
    lists: np.ndarray
    training_counts: np.ndarray
    n_ranked: int

    @property
    def n_cases(self) -> int:
        """C."""
        return len(self.lists)


Metric = Callable[[RankedLists, int], np.ndarray]


def metric_names() -> list[str]:
    """The metrics that the installed packages add, sorted; imports none of them."""
    return PLUG_INS.names()


def lookup(name: str) -> Metric:
    """The metric of that name.

    Raises UserError for an unknown one, for one of ours (those are always computed), and for a plug-in that cannot be loaded.
    """
    PLUG_INS.refuse_clash(name)
    if name in TAKEN:
        raise UserError(
            f"evaluation.metrics names '{name}', which every run has; name only others there: {', '.join(FAMILIES)}, and those of other packages"
        )
    if name not in PLUG_INS:
        hint = nearest(name, [*FAMILIES, *metric_names()])
        raise UserError(
            f"unknown evaluation.metrics '{name}'; {hint} (packages add more: entry-point group recbench.metrics)"
        )
    found = PLUG_INS.load(name)
    if not callable(found) or "@" in name:
        raise PLUG_INS.refusal(name, "is no function, or has an '@' in its name")
    return found


def check_metrics(names: Sequence[str]) -> None:
    """Raise UserError for names of ``evaluation.metrics`` that are unknown, cannot be loaded or stand there twice."""
    for name in names:
        if name not in FAMILIES:
            lookup(name)
        if list(names).count(name) > 1:
            raise UserError(f"evaluation.metrics names '{name}' twice")


def per_case(names: Sequence[str], ranked: RankedLists, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """name@k -> [C] values, for each metric of another package and each cutoff; those of lists are left to ``recbench.evaluation.lists``.

    Raises UserError, naming the package, for what is not one finite number a case.
    """
    found: dict[str, np.ndarray] = {}
    for name in names:
        if name in FAMILIES:
            continue
        metric = lookup(name)
        for k in cutoffs:
            values = np.asarray(metric(ranked, k), dtype=np.float64)
            if values.shape != (ranked.n_cases,) or not np.isfinite(values).all():
                raise PLUG_INS.refusal(
                    name,
                    f"gave an array {values.shape} where {ranked.n_cases} finite numbers were due, one for each case",
                )
            found[f"{name}@{k}"] = values
    return found
