"""The report as one page that needs nothing else: style, script and charts stand inside it, and its own policy forbids it to fetch anything."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.data.split_audit import audit_line
from recbench.report.board import Board
from recbench.report.cells import EMPTY, Cell, Heading, Table, decimals_of, number
from recbench.report.charts import N_COLOURS, Chart, curves_chart, pareto_chart, slices_chart, swatch
from recbench.report.curves import curves_of
from recbench.report.headline import Bars, bars_of, sentences
from recbench.report.pareto import axes_of
from recbench.report.slices import Slices, by_activity, by_popularity
from recbench.report.tables import leaderboard

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

FILES = Path(__file__).with_name("page_files")


@dataclass(frozen=True)
class Section:
    """One board as the page shows it. quality: charts of quality against cost, one a kind of cost, of which one is seen at a time."""

    anchor: str
    heading: str
    board: Board
    sentences: tuple[str, ...]
    bars: Bars | None
    table: Table
    audits: tuple[str, ...]
    legend: tuple[tuple[int, str, str], ...]
    quality: tuple[Chart, ...]
    learning: tuple[Chart, ...]
    slices: tuple[tuple[Chart, Table], ...]
    skipped: tuple[str, ...]

    @property
    def identity(self) -> tuple[tuple[str, str], ...]:
        """What a machine calls this board."""
        place = self.board.place
        return ("protocol", place.protocol), ("data fingerprint", place.fingerprint), ("split hash", place.split)


@dataclass(frozen=True)
class Page:
    """Everything on the page.

    about: sentences below the headline. shared: what all boards have in common, in words. others: (anchor, heading, table) of what is below
    the boards. configs: (anchor, name, YAML) of each row. files: (file beside the page, what it holds).
    """

    title: str
    about: tuple[str, ...]
    sections: tuple[Section, ...]
    others: tuple[tuple[str, str, Table], ...]
    configs: tuple[tuple[str, str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    shared: tuple[str, ...] = ()


def section(board: Board, anchor: str, heading: str, columns: Sequence[str], cache_dirs: Sequence[Path]) -> Section:
    """Everything on one board, drawn."""
    styles, numbers = _styles(board), {line.name: i + 1 for i, line in enumerate(board.measured)}
    metric = board.metric or ""
    curves = curves_of(board)
    quality = [
        pareto_chart(axis, points, metric, numbers, f"{anchor}-cost{i}")
        for i, (axis, points) in enumerate(axes_of(board))
    ]
    learning = [curves_chart(curves, metric, styles, by, f"{anchor}-{by}") for by in ("epochs", "seconds") if curves]
    found, skipped = [], []
    if board.main and metric:
        for name, title, made in (
            ("activity", "By user activity", by_activity(board)),
            ("popularity", "By item popularity", by_popularity(board, cache_dirs)),
        ):
            if isinstance(made, Slices):
                chart = slices_chart(made, metric, styles, title, f"{anchor}-{name}")
                found.append((chart, _slices_table(made, title, metric)))
            else:
                skipped.append(made)
    legend = tuple((numbers[name], name, swatch(i)) for name, i in styles.items() if learning or found)
    return Section(
        anchor,
        heading,
        board,
        sentences(board),
        bars_of(board),
        leaderboard(board, columns),
        _audits(board),
        legend,
        tuple(quality),
        tuple(learning),
        tuple(found),
        tuple(skipped),
    )


def _styles(board: Board) -> dict[str, int]:
    """Row -> its line style: the best rows and the reference; the others are grey."""
    names = [line.name for line in board.measured]
    shown = names[:N_COLOURS]
    if board.reference in names and board.reference not in shown:
        shown[-1] = board.reference
    return {name: i for i, name in enumerate(shown)}


def _audits(board: Board) -> tuple[str, ...]:
    found = []
    for audit in board.audits:
        try:
            found.append(audit_line(dict(audit)))
        except (KeyError, TypeError, ValueError):  # of a version that counted otherwise
            found.append(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in audit.items()))
    return tuple(dict.fromkeys(found))


def _slices_table(slices: Slices, title: str, metric: str) -> Table:
    headings = (Heading("row", numeric=False), *(Heading(label) for label in slices.labels))
    counts = (Cell(slices.unit), *(Cell(f"{count:,}", count) for count in slices.counts))
    decimals = decimals_of([float(value) for values in slices.values.values() for value in values if value == value])
    rows = [
        (
            Cell(name),
            *(Cell(number(float(v), decimals), float(v)) if v == v else EMPTY for v in values),
        )
        for name, values in slices.values.items()
    ]
    return Table(
        f"{metric}, {title.lower()}: {slices.what}", headings, (*rows, counts), ("measured",) * len(rows) + ("counts",)
    )


@functools.cache
def environment() -> Environment:
    """Jinja2 on the files of the page; values are escaped, and a value that is missing is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def own_text(name: str) -> Markup:
    """A file of ours that is put into a page as it is, such as ``style.css``; never anything of a run's."""
    from markupsafe import Markup

    return Markup((FILES / name).read_text(encoding="utf-8"))


def render(page: Page) -> str:
    """The page as HTML."""
    from markupsafe import Markup

    return (
        environment()
        .get_template("report.html")
        .render(
            page=page,
            drawn=Markup,
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            style=own_text("style.css"),
            script=own_text("report.js"),
        )
    )
