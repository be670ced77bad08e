"""The verdicts of a board: intervals, corrected p values and groups, from the ranks of its runs; and how far the best row is above the floor.

Shapes: S seeds, U users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recbench.core.errors import UserError
from recbench.evaluation.clicks import LESS_IS_BETTER
from recbench.evaluation.statistics.answers import check_answers, user_answers
from recbench.evaluation.statistics.compare import judge_values
from recbench.evaluation.statistics.panel import Panel
from recbench.evaluation.statistics.per_user import UserValues, same_users, user_values
from recbench.report.board import Board, Lead, Line
from recbench.report.collect import StoredRun
from recbench.report.ranks import NEEDED, ranks_problem, read_ranks
from recbench.report.rows import Row

#: Models that look at nothing of the user: what everything personal must beat.
FLOORS = ("popularity", "recent_popularity", "click_rate")
#: Resamples of the one comparison that the headline tells, at most.
LEAD_RESAMPLES = 2000


@dataclass(frozen=True)
class _Judged:
    """Rows that can be judged. totals: of a row [S, U]; cases [U]; twins: name of a row -> name of the row whose runs it shares, or ""."""

    rows: Sequence[Row]
    totals: Sequence[np.ndarray]
    cases: np.ndarray
    twins: dict[str, str]


def judged(board: Board, resamples: int) -> Board:
    """The board with a verdict on every row whose ranks are there, best mean first as before; why others have none is a note."""
    board = replace(board, lead=_lead_by_means(board))
    if board.metric is None or not board.measured:
        return board
    if not board.main:
        return _noted(
            board,
            "No intervals: the ranks of single users are kept for the protocol that a run was made for, not for this one.",
        )
    rows = [line.row for line in board.measured if line.row is not None]
    missing = {row.name: problem for row in rows if (problem := row_problem(row))}
    for note in _missing_notes(rows, missing):
        board = _noted(board, note)
    there, twins = _distinct([row for row in rows if row.name not in missing])
    if not there:
        return board
    try:
        found = _values(there, twins, board.plain_metric)
        reference = twins.get(board.reference or "", board.reference) if board.reference not in missing else None
        names = [row.name for row in there]
        place = names.index(reference) if reference in names else None
        up = board.plain_metric in LESS_IS_BETTER
        made = judge_values(names, found.totals, found.cases, place, resamples, less_is_better=up)
        verdicts = {verdict.name: verdict for verdict in made}
    except UserError as error:
        return _noted(board, f"No intervals: {error}.")
    lines = [
        replace(line, verdict=verdicts.get(twins.get(line.name, line.name))) if line.row else line
        for line in board.lines
    ]
    return _with_lead(replace(board, lines=tuple(lines)), found, min(resamples, LEAD_RESAMPLES))


def _missing_notes(rows: Sequence[Row], missing: dict[str, str]) -> list[str]:
    """One note for all rows of a study that keeps no ranks, else one a row."""
    if rows and len(missing) == len(rows) and all(run.recorded for row in rows for run in row.runs):
        return [
            "No intervals can be computed: the runs are not here, and the study keeps no ranks.npz. Running the study again makes it."
        ]
    return [f"No interval for {name}: {problem}." for name, problem in missing.items()]


def _values(rows: Sequence[Row], twins: dict[str, str], metric: str) -> _Judged:
    """Raises UserError where the runs were asked about different users, and for a metric that no user has by himself."""
    runs = [run for row in rows for run in row.runs]
    values = [_of_users(run, metric) for run in runs]
    same_users(values, [Path(run.key) for run in runs])
    left = iter(values)
    totals = [np.stack([next(left).totals for _ in row.runs]) for row in rows]
    return _Judged(rows, totals, values[0].cases, twins)


def _of_users(run: StoredRun, metric: str) -> UserValues:
    if run.predictions.is_file():
        check_answers(metric, [run.predictions])
        return user_answers(run.predictions, metric)
    table = read_ranks(run, NEEDED)
    return user_values(metric, table["rank"], table["case"], table["user"])


def _lead_by_means(board: Board) -> Lead | None:
    """The best row against the floor, by their means alone."""
    if board.metric is None or not board.measured:
        return None
    best = board.measured[0]
    floor, is_floor = floor_of(board)
    value = best.mean(board.metric)
    if value is None:
        return None
    below = floor.mean(board.metric) if floor is not None else None
    relative = value / below - 1 if below else None
    return Lead(best.name, floor.name if floor is not None and floor.name != best.name else None, is_floor, relative)


def floor_of(board: Board) -> tuple[Line | None, bool]:
    """(what the best row is measured against, whether it is a floor): the best popularity row, else the reference, else None."""
    floors = [line for line in board.measured if line.row and all(run.model in FLOORS for run in line.row.runs)]
    if floors:
        return floors[0], True
    return next((line for line in board.measured if line.name == board.reference), None), False


def _with_lead(board: Board, found: _Judged, resamples: int) -> Board:
    """The lead with its interval, where both rows were judged."""
    lead = board.lead
    if lead is None or lead.floor is None or lead.relative is None:
        return board
    by_name = dict(zip([row.name for row in found.rows], found.totals, strict=True))
    best, floor = (by_name.get(found.twins.get(name, name)) for name in (lead.best, lead.floor))
    if best is None or floor is None:
        return board
    ratio = Panel.of([best, floor], found.cases, resamples, seed=0).relative(0, 1)
    if ratio is None:
        return board
    return replace(board, lead=replace(lead, relative=ratio[0], low=ratio[1], high=ratio[2]))


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


def row_problem(row: Row) -> str:
    """Why the ranks or predictions of a row cannot be judged; empty if they can."""
    return next(
        (
            f"{problem} in {run.key}"
            for run in row.runs
            if not run.predictions.is_file() and (problem := ranks_problem(run))
        ),
        "",
    )


def usable(lines: Sequence[Line]) -> list[Line]:
    """The lines whose runs all have readable ranks."""
    return [line for line in lines if line.row is not None and not any(ranks_problem(run) for run in line.row.runs)]
