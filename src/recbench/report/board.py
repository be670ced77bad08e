"""Leaderboards: one for each data set and protocol id, never two in one. Figures are means over the seeds of a row."""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from recbench.core.errors import UserError, nearest
from recbench.report.collect import StoredRun, deciding
from recbench.report.columns import BY_NAME
from recbench.report.notes import doubts, entry_of, tuned_notes
from recbench.report.rows import MOST_KEYS, Row, rows_of
from recbench.report.words import protocol_words
from recbench.training.convergence import cut_off_note

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


@dataclass(frozen=True)
class View:
    """The figures of one run in one place."""

    place: Place
    run: StoredRun
    figures: Mapping[str, float]
    main: bool


def boards_of(
    runs: Sequence[StoredRun],
    rows: Sequence[Row] | None = None,
    metric: str | None = None,
    reference: str | None = None,
) -> list[Board]:
    """Boards of finished runs, in order of first appearance; not judged yet.

    rows: given by a study; else runs that differ by their seed only are one row. metric: without prefix, such as ``hr@10``; by default NDCG
    at 10. reference: the name of a row. Raises UserError for a metric or a reference that no board has.
    """
    places: dict[Place, list[View]] = {}
    for run in runs:
        for view in views(run):
            places.setdefault(view.place, []).append(view)
    boards = []
    for place, found in places.items():
        members = [view.run for view in found]
        grouped = rows_of(members) if rows is None else _given(rows, members)
        boards.append(_board(place, found, grouped, metric, reference))
    _check_choices(boards, metric, reference)
    return _told_apart(boards)


def views(run: StoredRun) -> list[View]:
    """What a run says: of its own protocol, and of those under which its weights were asked again."""
    data, fingerprint = data_label(run.config), str(run.provenance.get("data_fingerprint") or "unknown")
    place = Place(data, fingerprint, str(run.provenance.get("split_hash") or "unknown"), str(run.metrics["protocol"]))
    costs = {
        name.removeprefix("cost/"): value for name, value in _numbers(run.metrics).items() if name.startswith("cost/")
    }
    own = {name: value for name, value in _numbers(run.metrics).items() if name.startswith(("test/", "tokenizer/"))}
    found = [View(place, run, _plain(own) | costs, True)]
    for asked in run.asked:
        protocol = next((str(value) for name, value in asked.items() if name.endswith("protocol")), None)
        figures = {name: value for name, value in _numbers(asked).items() if name.startswith("test/")}
        if protocol and figures and protocol != place.protocol:
            found.append(View(replace(place, protocol=protocol), run, _plain(figures) | costs, False))
    return found


def _numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in figures.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _plain(figures: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix("test/"): value for name, value in figures.items()}


def data_label(config: Mapping[str, Any]) -> str:
    """Words by which a person knows the data of a stored config."""
    return _data_label(json.dumps(config.get("data", {}), sort_keys=True, default=str))


@functools.cache  # a hundred runs have the same few data
def _data_label(stored: str) -> str:
    from recbench.config.schemas import with_schema

    data = json.loads(stored)
    try:
        from omegaconf import OmegaConf

        typed: Any = OmegaConf.to_object(with_schema("data", data["name"], data))
        return " ".join(typed.labels())
    except (UserError, KeyError):  # a source that this version does not know
        return " ".join(str(data[key]) for key in ("name", "version", "category") if data.get(key)) or "unknown data"


def _given(rows: Sequence[Row], members: Sequence[StoredRun]) -> list[Row]:
    keys = {run.key for run in members}
    found = [Row(row.name, tuple(run for run in row.runs if run.key in keys)) for row in rows]
    return [row for row in found if row.runs]


def _board(
    place: Place, found: Sequence[View], rows: Sequence[Row], metric: str | None, reference: str | None
) -> Board:
    figures = {view.run.key: view.figures for view in found}
    every = {name for part in figures.values() for name in part}
    prefix, ranked_by = main_metric(every, metric)
    lines = [Line(row.name, mean_of([figures[run.key] for run in row.runs]), row=row) for row in rows]
    if ranked_by is not None:
        lines.sort(key=lambda line: -(line.mean(ranked_by) or 0.0))
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
    named = reference if reference in {row.name for row in rows} else None
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


def main_metric(names: set[str], wanted: str | None) -> tuple[str, str | None]:
    """(prefix of the protocol, name of the metric to judge by); the metric is None where nothing was ranked.

    >>> main_metric({"sampled999_ndcg@5", "sampled999_ndcg@10", "epochs"}, None)
    ('sampled999_', 'sampled999_ndcg@10')
    """
    cutoffs = {}
    for name in names:
        prefix, found, cutoff = name.partition("ndcg@")
        if found and cutoff.isdigit() and not prefix.startswith("validation"):
            cutoffs[int(cutoff)] = prefix
    if not cutoffs:
        return "", None
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


def _check_choices(boards: Sequence[Board], metric: str | None, reference: str | None) -> None:
    ranked = [board for board in boards if board.metric]
    if metric and ranked and not any(board.plain_metric == metric for board in ranked):
        known = {
            name.removeprefix(b.prefix)
            for b in ranked
            for line in b.measured
            for name in line.figures
            if "@" in name or name == "mrr"
        }
        raise UserError(f"no run has the metric '{metric}'; {nearest(metric, sorted(known))}")
    names = list(dict.fromkeys(line.name for board in boards for line in board.measured))
    if reference and reference not in names:
        raise UserError(f"reference: there is no row '{reference}'; {nearest(reference, names)}")


def _told_apart(boards: Sequence[Board]) -> list[Board]:
    """Titles that are never the same twice: where words are alike, by the keys of data and protocol that differ, else by hashes."""
    titles = [board.title for board in boards]
    found = []
    for board in boards:
        alike = [other for other in boards if other.title == board.title]
        said = _differing(board, alike) if titles.count(board.title) > 1 else ""
        found.append(replace(board, title=f"{board.title} ({said})") if said else board)
    titles = [board.title for board in found]
    return [
        board
        if titles.count(board.title) == 1
        else replace(board, title=f"{board.title} (data {board.place.fingerprint[:8]}, split {board.place.split[:8]})")
        for board in found
    ]


def _differing(board: Board, alike: Sequence[Board]) -> str:
    """``key=value`` of data and protocol in which boards of one title differ; "" where their configs are the same."""
    configs = {other.place: _asked(other) for other in alike}
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    varying = [key for key in keys if len({str(config.get(key)) for config in configs.values()}) > 1]
    own = configs[board.place]
    return ", ".join(f"{key.partition('.')[2]}={own[key]}" for key in varying[:MOST_KEYS] if key in own)


def _asked(board: Board) -> dict[str, Any]:
    """The keys of data and protocol of a board's first run."""
    run = next((line.row.runs[0] for line in board.measured if line.row), None)
    return (
        {} if run is None else {k: v for k, v in deciding(run.config).items() if k.startswith(("data.", "protocol."))}
    )


def with_published(
    boards: Sequence[Board], published: Sequence[Mapping[str, Any]], reference: str | None
) -> list[Board]:
    """Boards with the printed rows of a study below the measured ones.

    A printed row stands with the row that it names with ``beside``, and nowhere before that row is measured; one that names none stands
    with the reference, or on the first board. Of its figures each board takes those of its own protocol, by their prefix.
    """
    found = list(boards)
    for printed in published:
        named = printed.get("beside")
        homes = [b for b in boards if (named or reference) in {line.name for line in b.measured}]
        if not (homes or named):
            homes = list(boards[:1])
        data = {(b.place.data, b.place.fingerprint, b.place.split) for b in homes}
        for i, board in enumerate(found):
            if (board.place.data, board.place.fingerprint, board.place.split) not in data:
                continue
            figures = {
                name: (float(value), None)
                for name, value in printed.items()
                if isinstance(value, int | float) and _belongs(name, board)
            }
            if figures:
                line = Line(str(printed["label"]), figures, PUBLISHED, str(printed["source"]))
                found[i] = replace(found[i], lines=(*found[i].lines, line))
    return found


def _belongs(name: str, board: Board) -> bool:
    """Whether a figure has a board's prefix, and no longer one; costs belong to the protocol that the runs were trained for."""
    if name in BY_NAME:
        return board.main
    if name.startswith("tokenizer/") or board.metric is None:
        return name.startswith("tokenizer/") and board.metric is None
    rest = name.removeprefix(board.prefix)
    return name.startswith(board.prefix) and "_" not in rest.replace("mean_popularity", "")
