"""For whom a row is good: its metric over users by activity, and over targets by how often training holds their item.

Both come from the stored ranks. Activity is the length of a user's history, which stands beside the ranks; popularity needs the prepared
data, which are looked for by their fingerprint and never made again.

Shapes: T targets, C cases, I items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.core.errors import UserError
from recbench.evaluation.metrics import METRICS
from recbench.report.board import Board, Line
from recbench.report.collect import StoredRun
from recbench.report.ranks import has_columns, read_ranks
from recbench.report.verdicts import usable

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData

#: Groups of about equal size.
N_GROUPS = 5


@dataclass(frozen=True)
class Slices:
    """A metric by groups. labels [G], counts [G]: cases or targets in a group; values: row -> [G], NaN where a group is empty."""

    what: str
    unit: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    values: Mapping[str, np.ndarray]


def by_activity(board: Board) -> Slices | str:
    """The board's metric by length of history, or a sentence that says why there is none."""
    lines = [line for line in _sliceable(board) if _has(line, "history_length")]
    if not lines:
        return "By user activity: skipped, because no run keeps ranks and history lengths under this protocol."
    table = read_ranks(_run(lines[0]), ["case", "history_length"])
    _, first = np.unique(table["case"], return_index=True)
    groups = _Groups.of(table["history_length"][first])
    values = {line.name: _mean(line, board.plain_metric, groups, "history_length") for line in lines}
    return Slices("events in the history", "cases", groups.labels, groups.sizes, values)


def by_popularity(board: Board, cache_dirs: Sequence[Path]) -> Slices | str:
    """The board's metric by training count of the target's item, each target for itself; or why there is none."""
    lines = [line for line in _sliceable(board) if _has(line, "target")]
    if not lines:
        return "By item popularity: skipped, because no run keeps the items of its targets under this protocol."
    run = _run(lines[0])
    counts = training_counts(run, cache_dirs)
    if isinstance(counts, str):
        return f"By item popularity: skipped, {counts}."
    target = read_ranks(run, ["target"])["target"]
    if len(target) and int(target.max()) >= len(counts):
        return "By item popularity: skipped, the ranks name items that are not in the prepared data."
    groups = _Groups.with_zero(counts[target])
    values = {line.name: _mean(line, board.plain_metric, groups, "target", counts) for line in lines}
    return Slices("training events of the target's item", "targets", groups.labels, groups.sizes, values)


def _sliceable(board: Board) -> list[Line]:
    return usable(board.measured) if board.main and board.plain_metric.partition("@")[0] in METRICS else []


def _run(line: Line) -> StoredRun:
    assert line.row is not None
    return line.row.runs[0]


def _has(line: Line, column: str) -> bool:
    assert line.row is not None
    return all(has_columns(run, [column]) for run in line.row.runs)


@dataclass(frozen=True)
class _Groups:
    """Ranges of whole numbers. edges [G + 1]: a value x is in group g if ``edges[g] <= x < edges[g + 1]``."""

    edges: np.ndarray
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, values: np.ndarray) -> _Groups:
        """Ranges that split the values into about equal parts; fewer where many are equal."""
        inner = np.ceil(np.quantile(values, np.arange(1, N_GROUPS) / N_GROUPS)).astype(np.int64)
        edges = np.unique([int(values.min()), *inner, int(values.max()) + 1])
        return cls(edges, tuple(int(n) for n in np.histogram(values, edges)[0]))

    @classmethod
    def with_zero(cls, values: np.ndarray) -> _Groups:
        """The same, but 0 is a range of its own: items without a training event, which no training could teach."""
        if values.min() > 0 or values.max() == 0:
            return cls.of(values)
        edges = np.unique([0, 1, *cls.of(values[values > 0]).edges])
        return cls(edges, tuple(int(n) for n in np.histogram(values, edges)[0]))

    @property
    def labels(self) -> tuple[str, ...]:
        """Such as ``3-4``, and a single number for a range of one."""
        ends = [(int(a), int(b) - 1) for a, b in zip(self.edges[:-1], self.edges[1:], strict=True)]
        return tuple(f"{a:,}" if a == b else f"{a:,}–{b:,}" for a, b in ends)

    def mean(self, group_of: np.ndarray, values: np.ndarray) -> np.ndarray:
        """[G] mean of the values by the group of their numbers; NaN where there is none."""
        place = np.clip(np.searchsorted(self.edges, group_of, side="right") - 1, 0, len(self.edges) - 2)
        sums = np.bincount(place, weights=values, minlength=len(self.edges) - 1)
        sizes = np.bincount(place, minlength=len(self.edges) - 1)
        return np.divide(sums, sizes, out=np.full(len(sums), np.nan), where=sizes > 0)


def _mean(line: Line, metric: str, groups: _Groups, column: str, counts: np.ndarray | None = None) -> np.ndarray:
    """[G] mean over the seeds of a row. With counts [I + 1], targets are grouped by those of their items, each target for itself."""
    assert line.row is not None
    name, _, cutoff = metric.partition("@")
    found = []
    for run in line.row.runs:
        table = read_ranks(run, ["case", "rank", column])
        rank, case, of = table["rank"], table["case"], table[column]
        if counts is not None:
            case, of = np.arange(len(rank)), counts[of]
        else:
            _, first = np.unique(case, return_index=True)
            of = of[first]
        found.append(groups.mean(of, METRICS[name](rank, case, float(cutoff or "inf"))))
    return np.mean(found, axis=0)


def training_counts(run: StoredRun, cache_dirs: Sequence[Path]) -> np.ndarray | str:
    """[I + 1] training events of each item under the run's protocol; or why there are none."""
    from recbench.data.protocol import LeaveOneOutConfig, SampledConfig, protocol_class
    from recbench.data.split import make_split

    data = find_data(str(run.provenance.get("data_fingerprint")), cache_dirs)
    if data is None:
        looked = ", ".join(map(str, cache_dirs)) or "no cache folder"
        return f"the prepared data are not here (looked in {looked}; name another folder with cache_dir=PATH)"
    given: dict[str, Any] = dict(run.config.get("protocol", {}))
    try:
        protocol = protocol_class(given["name"])(**given)
        if isinstance(protocol, SampledConfig):
            # It trains on the same events.
            protocol = LeaveOneOutConfig(seen_items=protocol.seen_items, fit_on_validation=protocol.fit_on_validation)
            split = make_split(data, protocol, None)
        else:
            split = make_split(data, protocol, None)
            if run.provenance.get("split_hash", split.split_hash) != split.split_hash:
                return "this version splits the prepared data differently"
    except (KeyError, TypeError, ValueError, UserError) as error:
        return f"the run's protocol cannot be applied here ({error})"
    counts = np.zeros(data.n_items + 1, np.int64)
    change = np.zeros(data.n_interactions + 1, np.int64)
    used = split.train_end > split.train_start
    np.add.at(change, split.train_start[used], 1)
    np.add.at(change, split.train_end[used], -1)
    np.add.at(counts, data.items[np.cumsum(change[:-1]) > 0], 1)
    return counts


def find_data(fingerprint: str, cache_dirs: Sequence[Path]) -> PreparedData | None:
    """The prepared data with a fingerprint in one of the caches; None if they are in none. Nothing is prepared or written."""
    from recbench.data.prepared import PreparedData, read_manifest

    for cache in cache_dirs:
        for folder in sorted((cache / "prepared").glob("*/manifest.json")):
            manifest = read_manifest(folder.parent)
            if manifest is not None and manifest.get("fingerprint") == fingerprint:
                return PreparedData.open(folder.parent)
    return None
