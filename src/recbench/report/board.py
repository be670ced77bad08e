"""A leaderboard: what runs of one data set and protocol id say. Figures are means over the seeds of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from recbench.report.rows import Row

if TYPE_CHECKING:
    from recbench.evaluation.statistics.compare import Verdict


MEASURED, PUBLISHED, BOUND = "measured", "published", "bound"


@dataclass(frozen=True)
class Place:
    """What a run was asked: data by name and fingerprint, split, protocol id. Two places never share a board."""

    data: str
    fingerprint: str
    split: str
    protocol: str


@dataclass(frozen=True)
class Line:
    """A line of a board. figures: name -> (mean, deviation over seeds or None); kind: measured, published, or a known bound."""

    name: str
    figures: Mapping[str, tuple[float, float | None]]
    kind: str = MEASURED
    source: str = ""
    row: Row | None = None
    verdict: Verdict | None = None

    def mean(self, name: str) -> float | None:
        return self.figures[name][0] if name in self.figures else None


@dataclass(frozen=True)
class Lead:
    """How far the best row is above what it is measured against.

    floor: name of that row; None where there is none, or where it is the best row itself. is_floor: it is popularity, else the reference.
    relative: difference as a share of the floor's mean; low, high: its 95 % interval, None where there are no ranks.
    """

    best: str
    floor: str | None
    is_floor: bool
    relative: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Board:
    """One leaderboard. metric: the name of what it is sorted and judged by, with the protocol's prefix; None for runs that rank nothing.

    title: data and protocol in words. main: its runs were tested under this protocol, so their ranks and epochs belong to it; else their
    weights were only asked again. lead: the best row against the floor.
    """

    place: Place
    title: str
    prefix: str
    metric: str | None
    main: bool
    lines: tuple[Line, ...]
    audits: tuple[Mapping[str, Any], ...] = ()
    reference: str | None = None
    notes: tuple[str, ...] = field(default=())
    lead: Lead | None = None

    @property
    def plain_metric(self) -> str:
        """The metric's name in ``ranks.parquet``, without the prefix."""
        return (self.metric or "").removeprefix(self.prefix)

    @property
    def measured(self) -> list[Line]:
        return [line for line in self.lines if line.kind == MEASURED]
