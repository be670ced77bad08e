"""Cells, headings and tables as data, and how numbers are written: the decimal points of a column lie below each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from recbench.core.terminal import short_number


@dataclass(frozen=True)
class Cell:
    """text as shown. sort: by what a column is sorted, if not by the text; bar: (low, mean, high) in shares of the column's range;
    spread: deviation over seeds, set apart from the number; best: the best of its column; link: a place on the page, without #."""

    text: str
    sort: float | None = None
    bar: tuple[float, float, float] | None = None
    spread: str = ""
    best: bool = False
    link: str = ""

    @property
    def whole(self) -> str:
        """Number and deviation in one, for what has no columns within columns."""
        return f"{self.text} ± {self.spread}" if self.spread else self.text


@dataclass(frozen=True)
class Heading:
    """text; help: one sentence; numeric: set to the right; paper: also in LaTeX, which has little room; screen: on the page only;
    extra: hidden on the page until a reader chooses it."""

    text: str
    help: str = ""
    numeric: bool = True
    paper: bool = False
    screen: bool = False
    extra: bool = False


class Column(NamedTuple):
    """A heading and a cell a row."""

    heading: Heading
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Table:
    """headings [N], rows of N cells, and the kind of each row (measured, published, best achievable)."""

    caption: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[Cell, ...], ...]
    kinds: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, caption: str, columns: Sequence[Column], kinds: Sequence[str], notes: Sequence[str] = ()) -> Table:
        """A table from its columns, which are all as long as ``kinds``."""
        rows = zip(*(column.cells for column in columns), strict=True)
        return cls(caption, tuple(column.heading for column in columns), tuple(rows), tuple(kinds), tuple(notes))

    @property
    def spread(self) -> list[bool]:
        """[N]: whether a cell of the column has a deviation, so that all leave room for one."""
        return [any(row[i].spread for row in self.rows) for i in range(len(self.headings))]


EMPTY = Cell("")


def decimals_of(values: Sequence[float]) -> int:
    """Decimals of a column: four digits of its largest number are seen; none where all are whole numbers above one.

    >>> decimals_of([0.0546, 0.2]), decimals_of([11.72, 0.5]), decimals_of([23.0, 4.0])
    (4, 2, 0)
    """
    largest = max(map(abs, values), default=0.0)
    if largest > 1 and all(value == int(value) for value in values):
        return 0
    return max(0, 4 - (len(str(int(largest))) if largest >= 1 else 0))


def number(value: float, decimals: int | None = None) -> str:
    """Without the zero before the point; by itself, with as many decimals as its size asks for.

    >>> number(0.05461), number(-0.5), number(11.7173), number(0.5, 2), number(12_345.0)
    ('.0546', '-.5000', '11.72', '.50', '12.3k')
    """
    if decimals is None:
        if value >= 1000:
            return short_number(value)
        decimals = decimals_of([value])
    text = f"{value:,.{decimals}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and text.lstrip("-").startswith("0.") else text
