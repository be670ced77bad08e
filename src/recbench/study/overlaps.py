"""Columns of a study's table that need the lists of several runs: stability by seed, and by the last day of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbench.core.run_folder import RunFolder
from recbench.evaluation.lists.stability import BY_DAY, BY_SEED, day_stability, stability
from recbench.report.entrants import day_pairs

#: The columns, without their cutoff.
OVERLAPS = (BY_SEED, BY_DAY)


def overlap(column: str, own: Sequence[Path], every: Sequence[Path]) -> float | None:
    """The figure of a row; None where lists were not kept. own: run folders of the row; every: those of all rows, among which are those that differ
    from the row's own in ``training.resample_day`` alone."""
    kind, _, cutoff = column.partition("@")
    if kind == BY_SEED:
        return stability(own, int(cutoff))
    there = [path for path in every if RunFolder(path).finished]
    mine = {path.resolve() for path in own}
    pairs = [runs for found in day_pairs(there).values() for runs in found if mine & set(runs)]
    return day_stability(pairs, int(cutoff))
