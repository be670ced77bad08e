"""Finished runs dealt to leaderboards: one for each data set and protocol id, never two in one."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from recbench.core.errors import UserError, nearest
from recbench.evaluation.clicks import LESS_IS_BETTER
from recbench.evaluation.clicks import METRICS as CLICK_METRICS
from recbench.evaluation.lists.stability import stability
from recbench.report.board import BOUND, Board, Line, Place
from recbench.report.collect import StoredRun
from recbench.report.notes import doubts, entry_of, tuned_notes
from recbench.report.rows import Row, rows_of
from recbench.report.titles import told_apart
from recbench.report.views import View, views
from recbench.report.words import protocol_words
from recbench.training.convergence import cut_off_note


def boards_of(
    runs: Sequence[StoredRun],
    rows: Sequence[Row] | None = None,
    metric: str | None = None,
    reference: str | Sequence[str] | None = None,
) -> list[Board]:
    """Boards of finished runs, in order of first appearance; not judged yet.

    rows: given by a study; else runs that differ by their seed only are one row. metric: without prefix, such as ``hr@10``; by default NDCG
    at 10. reference: the name of a row, or several, of which each board takes the first that it has. Raises UserError for a metric or a reference
    that no board has.
    """
    references = (reference,) if isinstance(reference, str) else tuple(reference or ())
    places: dict[Place, list[View]] = {}
    for run in runs:
        for view in views(run):
            places.setdefault(view.place, []).append(view)
    boards = []
    for place, found in places.items():
        members = [view.run for view in found]
        grouped = rows_of(members) if rows is None else _given(rows, members)
        boards.append(_board(place, found, grouped, metric, references))
    _check_choices(boards, metric, references)
    return told_apart(boards)


def _given(rows: Sequence[Row], members: Sequence[StoredRun]) -> list[Row]:
    keys = {run.key for run in members}
    found = [replace(row, runs=tuple(run for run in row.runs if run.key in keys)) for row in rows]
    return [row for row in found if row.runs]


def _board(
    place: Place, found: Sequence[View], rows: Sequence[Row], metric: str | None, references: Sequence[str]
) -> Board:
    figures = {view.run.key: view.figures for view in found}
    every = {name for part in figures.values() for name in part}
    prefix, ranked_by = main_metric(every, metric)
    lines = [
        Line(row.name, mean_of([figures[run.key] for run in row.runs]) | _stability(row, prefix, ranked_by), row=row)
        for row in rows
    ]
    if ranked_by is not None:
        lines.sort(key=lambda line: _place_of(line, ranked_by))
    main = all(view.main for view in found)
    oracle: Mapping[str, Any] = found[0].run.metrics.get("oracle") or {}
    bound = {
        name.removeprefix("test/"): (float(value), None) for name, value in oracle.items() if isinstance(value, float)
    }
    # The best score is known for the last event of a user, ranked against the whole catalogue.
    if main and bound and place.protocol.startswith("leave_one_out-full"):
        lines.append(Line("best achievable", bound, BOUND))
    audits = {
        json.dumps(view.run.metrics.get("audit"), sort_keys=True): view.run.metrics.get("audit") for view in found
    }
    names = {row.name for row in rows}
    named = next((name for name in references if name in names), None)
    notes = [] if len(audits) == 1 else ["The audits of these runs differ: they were made by different versions."]
    stopped = [row.name for row in rows if any(run.cut_off for run in row.runs)]
    if stopped:
        notes.append(cut_off_note(stopped))
    told = [entry_of(row.name, row.runs) for row in rows]
    notes += [*tuned_notes(told, warn=True), *(doubts(told) if main else [])]
    return Board(
        place,
        f"{place.data}: {protocol_words(place.protocol)}",
        prefix,
        ranked_by,
        main,
        tuple(lines),
        tuple(audit for audit in audits.values() if audit),
        named,
        tuple(notes),
    )


def _place_of(line: Line, metric: str) -> tuple[bool, float]:
    """What lines are sorted by: best first, those without the metric last."""
    mean = line.mean(metric)
    if mean is None:
        return True, 0.0
    return False, mean if metric in LESS_IS_BETTER else -mean


def _stability(row: Row, prefix: str, metric: str | None) -> dict[str, tuple[float, float | None]]:
    """``stability@k`` of a row whose runs have kept their lists, at the cutoff of the metric or at 10; nothing for others."""
    if metric is None:
        return {}
    cutoff = metric.partition("@")[2] or "10"
    found = stability([run.path for run in row.runs], int(cutoff))
    return {} if found is None else {f"{prefix}stability@{cutoff}": (found, None)}


def main_metric(names: set[str], wanted: str | None) -> tuple[str, str | None]:
    """(prefix of the protocol, name of the metric to judge by); the metric is None where nothing was ranked.

    >>> main_metric({"sampled999_ndcg@5", "sampled999_ndcg@10", "epochs"}, None)
    ('sampled999_', 'sampled999_ndcg@10')
    >>> main_metric({"auc", "logloss"}, None)
    ('', 'auc')
    """
    cutoffs = {}
    for name in names:
        prefix, found, cutoff = name.partition("ndcg@")
        if found and cutoff.isdigit() and not prefix.startswith("validation"):
            cutoffs[int(cutoff)] = prefix
    if not cutoffs:
        clicks = [name for name in (wanted, "auc") if name and name in names]
        return "", clicks[0] if clicks else None
    k = 10 if 10 in cutoffs else max(cutoffs)
    prefix = cutoffs[k]
    chosen = f"{prefix}{wanted}" if wanted and f"{prefix}{wanted}" in names else f"{prefix}ndcg@{k}"
    return prefix, chosen


def mean_of(runs: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float | None]]:
    """Name -> (mean, standard deviation over seeds) of what every run of a row has."""
    common = [name for name in runs[0] if all(name in part for part in runs)]
    found = {}
    for name in common:
        values = [part[name] for part in runs]
        found[name] = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
    return found


def _check_choices(boards: Sequence[Board], metric: str | None, references: Sequence[str]) -> None:
    ranked = [board for board in boards if board.metric]
    if metric and ranked and not any(board.plain_metric == metric for board in ranked):
        known = {
            name.removeprefix(b.prefix)
            for b in ranked
            for line in b.measured
            for name in line.figures
            if "@" in name or name in ("mrr", *CLICK_METRICS)
        }
        raise UserError(f"no run has the metric '{metric}'; {nearest(metric, sorted(known))}")
    names = list(dict.fromkeys(line.name for board in boards for line in board.measured))
    for reference in references:
        if reference not in names:
            raise UserError(f"reference: there is no row '{reference}'; {nearest(reference, names)}")
