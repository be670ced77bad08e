"""The verdicts of a board: intervals, corrected p values and groups, from the ranks that its runs keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from recbench.core.errors import UserError
from recbench.report.board import Board, Line
from recbench.report.collect import StoredRun

if TYPE_CHECKING:
    from recbench.report.rows import Row

#: Columns of ``ranks.parquet`` that a judgement reads.
NEEDED = {"case", "user", "rank"}


def judged(board: Board, resamples: int) -> Board:
    """The board with a verdict on every row whose ranks are there, best mean first as before; why others have none is a note."""
    if board.metric is None or not board.measured:
        return board
    if not board.main:
        return _noted(
            board,
            "No intervals here: the weights were asked again under this protocol, and ranks user by user are not kept for it.",
        )
    from recbench.evaluation.statistics.compare import Entrant, judge

    rows = [line.row for line in board.measured if line.row is not None]
    missing = {row.name: problem for row in rows if (problem := ranks_problem(row))}
    there, twins = _distinct([row for row in rows if row.name not in missing])
    for name, problem in missing.items():
        board = _noted(board, f"No interval for {name}: {problem}.")
    if not there:
        return board
    reference = twins.get(board.reference or "", board.reference) if board.reference not in missing else None
    try:
        entrants = [Entrant(row.name, tuple(run.path for run in row.runs)) for row in there]
        verdicts = {found.name: found for found in judge(entrants, board.plain_metric, reference, resamples=resamples)}
    except UserError as error:
        return _noted(board, f"No intervals: {error}.")
    lines = [
        replace(line, verdict=verdicts.get(twins.get(line.name, line.name))) if line.row else line
        for line in board.lines
    ]
    return replace(board, lines=tuple(lines))


def _distinct(rows: Sequence[Row]) -> tuple[list[Row], dict[str, str]]:
    """(rows with runs of their own, name of a row -> name of the row whose runs it shares). A run is judged once."""
    first: dict[str, str] = {}
    own: list[Row] = []
    twins: dict[str, str] = {}
    for row in rows:
        shared = {first.get(run.key) for run in row.runs}
        if shared != {None}:
            # Only a row with the very same runs has the same verdict.
            other = next(
                (found for found in own if [run.key for run in found.runs] == [run.key for run in row.runs]), None
            )
            twins[row.name] = other.name if other else ""
        else:
            own.append(row)
            first |= dict.fromkeys((run.key for run in row.runs), row.name)
    return own, twins


def _noted(board: Board, note: str) -> Board:
    return replace(board, notes=(*board.notes, note))


def ranks_problem(row: Row) -> str:
    """Why the ranks of a row cannot be judged; empty if they can."""
    return next((f"{problem} in {run.key}" for run in row.runs if (problem := file_problem(run))), "")


def file_problem(run: StoredRun) -> str:
    """What is wrong with a run's ``ranks.parquet``; only its header is read."""
    import polars as pl

    if not run.ranks.is_file():
        return "ranks.parquet is missing"
    try:
        lacking = NEEDED - set(pl.read_parquet_schema(run.ranks))
    except (OSError, pl.exceptions.PolarsError):
        return "ranks.parquet cannot be read"
    return f"ranks.parquet lacks {', '.join(sorted(lacking))}" if lacking else ""


def usable(lines: Sequence[Line]) -> list[Line]:
    """The lines whose runs all have readable ranks."""
    return [line for line in lines if line.row is not None and not ranks_problem(line.row)]
