"""Columns of a study's table that need the lists of several runs: stability by seed, and by the last day of training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from recbench.core.run_folder import RunFolder
from recbench.evaluation.lists.stability import BY_DAY, BY_SEED, day_stability, stability
from recbench.report.entrants import day_pairs

#: The columns, without their cutoff.
OVERLAPS = (BY_SEED, BY_DAY)


class Overlaps:
    """The figures of a table's rows; None where lists were not kept. every: run folders of all rows, among which are those that differ from a
    row's own in ``training.resample_day`` alone."""

    def __init__(self, every: Sequence[Path]) -> None:
        self.every = every

    @cached_property
    def by_day(self) -> list[tuple[Path, ...]]:
        """Runs of one seed that differ in the day alone; read once for all rows."""
        there = [path for path in self.every if RunFolder(path).finished]
        return [runs for found in day_pairs(there).values() for runs in found]

    def of(self, column: str, own: Sequence[Path]) -> float | None:
        """The figure of a row. own: its run folders."""
        kind, _, cutoff = column.partition("@")
        if kind == BY_SEED:
            return stability(own, int(cutoff))
        mine = {path.resolve() for path in own}
        return day_stability([runs for runs in self.by_day if mine & set(runs)], int(cutoff))
