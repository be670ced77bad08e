"""``ranks.npz`` beside a study's results.csv: the ranks of its final runs, so that intervals can be computed again where the runs are not.

A rank is a whole or a half (a tie shares the places it covers), so ``2 * rank - 1`` is a whole number from 1. That is what is stored, as
uint16: ranks up to 1,024 are exact, so every cutoff up to there is. Of a larger one seven binary digits are kept, for it is a miss anyway, and most
of the file was made of the others: it is read back within one percent, which moves the reciprocal rank by less than 1/100,000. One above 32,768
is read back as 32,768. 0 stands for an infinite rank: the model gave a list and the target was not in it.

Runs that were asked about the same cases share what belongs to the cases. Equal ranks give equal bytes. About 30 kB a run of 22,000 users.

The file is NumPy's npz. ``index`` is JSON as bytes; then for each group i of runs ``case_i``, ``user_i`` and ``history_i`` as steps from
one target to the next [T], and ``ranks_i`` [R, T]. Shapes: T targets, R runs.
"""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.core.errors import UserError
from recbench.core.run_folder import replacing
from recbench.report.ranks import NEEDED

if TYPE_CHECKING:
    from recbench.study.jobs import Job

logger = logging.getLogger(__name__)

FILE, VERSION = "ranks.npz", 1
#: What stands for every rank that is larger, and for an infinite one.
CLIPPED, INFINITE = 65_535, 0
#: Up to here ``2 * rank - 1`` is kept whole; of what is larger, so many binary digits.
EXACT, DIGITS = 2047, 7
#: Length of the history before a target: what the metric by user activity needs.
HISTORY = "history_length"


@dataclass(frozen=True)
class KeptRun:
    """A final run. rows: the rows of the study that it belongs to; rank [T] float64 from 1, perhaps infinite."""

    key: str
    seed: int
    rows: tuple[str, ...]
    rank: np.ndarray


@dataclass(frozen=True)
class Group:
    """Runs that were asked about the same cases. case, user, history [T] int64; history None where the runs do not tell it."""

    protocol: str
    fingerprint: str
    split: str
    case: np.ndarray
    user: np.ndarray
    history: np.ndarray | None
    runs: tuple[KeptRun, ...]

    def has_cases_of(self, other: Group) -> bool:
        """Whether both are about the same cases of the same data under the same protocol."""
        same_place = (self.protocol, self.fingerprint, self.split) == (other.protocol, other.fingerprint, other.split)
        return same_place and _identical(self.case, other.case) and _identical(self.user, other.user)


@dataclass(frozen=True)
class StudyRanks:
    """Everything that a ranks.npz holds."""

    groups: tuple[Group, ...] = ()

    def find(self, key: str) -> tuple[Group, KeptRun] | None:
        """The run of a key, with its group; None where it is not kept."""
        return next(((group, run) for group in self.groups for run in group.runs if run.key == key), None)

    def columns(self, key: str) -> dict[str, np.ndarray] | None:
        """Columns [T] of a run as in its ranks.parquet; None where it is not kept."""
        found = self.find(key)
        if found is None:
            return None
        group, run = found
        columns = {"case": group.case, "user": group.user, "rank": run.rank}
        return columns if group.history is None else {**columns, HISTORY: group.history}


def encode(rank: np.ndarray) -> np.ndarray:
    """Ranks as uint16. Raises UserError for what is no rank: below 1, not a number, or neither a whole nor a half.

    >>> encode(np.array([1.0, 1.5, 7.0, 1024.0, 5000.0, 40_000.0, np.inf])).tolist()
    [1, 2, 13, 2047, 10048, 65535, 0]
    """
    finite = np.where(np.isposinf(rank), 1.0, rank)
    places = 2 * finite - 1
    if not (np.all(finite >= 1) and np.array_equal(places, np.round(places))):
        raise UserError("ranks must be wholes or halves from 1, so they cannot be kept in ranks.npz")
    whole = np.minimum(places, CLIPPED).astype(np.int64)
    return np.where(np.isposinf(rank), INFINITE, np.where(whole < CLIPPED, _rounded(whole), CLIPPED)).astype(np.uint16)


def _rounded(whole: np.ndarray) -> np.ndarray:
    """Above EXACT the middle of the numbers that share the first DIGITS binary digits, which stays what it is when rounded again."""
    span = 1 << np.maximum(np.frexp(whole)[1] - DIGITS, 1)
    return np.where(whole <= EXACT, whole, whole // span * span + span // 2)


def decode(stored: np.ndarray) -> np.ndarray:
    """Ranks from uint16.

    >>> decode(np.array([1, 2, 13, 65535, 0], dtype=np.uint16)).tolist()
    [1.0, 1.5, 7.0, 32768.0, inf]
    """
    return np.where(stored == INFINITE, np.inf, (stored.astype(np.float64) + 1) / 2)


def write_ranks(path: Path, kept: StudyRanks) -> None:
    """Write a ranks.npz. Raises UserError for ranks that cannot be stored, and where the file cannot be written."""
    index: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for i, group in enumerate(kept.groups):
        runs = [{"key": run.key, "seed": run.seed, "rows": list(run.rows)} for run in group.runs]
        index.append({"protocol": group.protocol, "fingerprint": group.fingerprint, "split": group.split, "runs": runs})
        arrays[f"case_{i}"], arrays[f"user_{i}"] = _steps(group.case), _steps(group.user)
        if group.history is not None:
            arrays[f"history_{i}"] = _steps(group.history)
        arrays[f"ranks_{i}"] = np.stack([encode(run.rank) for run in group.runs])
    text = json.dumps({"version": VERSION, "groups": index}, sort_keys=True)
    arrays["index"] = np.frombuffer(text.encode(), dtype=np.uint8)
    with replacing(path) as temporary:
        temporary.write_bytes(_npz(arrays))


def read_ranks_file(path: Path) -> StudyRanks:
    """What a ranks.npz holds; nothing where there is no such file. Raises UserError for a file that cannot be read."""
    if not path.is_file():
        return StudyRanks()
    try:
        with np.load(path, allow_pickle=False) as file:
            index = json.loads(bytes(file["index"]))
            if index["version"] != VERSION:
                raise UserError(f"{path} is of version {index['version']}, and this recbench reads version {VERSION}")
            return StudyRanks(tuple(_group(file, i, said) for i, said in enumerate(index["groups"])))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read {path} ({type(error).__name__}); run the study to make it again") from error


def _group(file: Mapping[str, np.ndarray], i: int, said: Mapping[str, Any]) -> Group:
    rows = decode(file[f"ranks_{i}"])
    runs = [
        KeptRun(run["key"], run["seed"], tuple(run["rows"]), rank) for run, rank in zip(said["runs"], rows, strict=True)
    ]
    history = _sums(file[f"history_{i}"]) if f"history_{i}" in file else None
    places = (said["protocol"], said["fingerprint"], said["split"])
    return Group(*places, _sums(file[f"case_{i}"]), _sums(file[f"user_{i}"]), history, tuple(runs))


def collect_ranks(jobs: Iterable[Job], earlier: StudyRanks, told: Iterable[tuple[str, str]] = ()) -> StudyRanks:
    """The ranks of finished final jobs, from their folders; of a run without its ranks.parquet, from an earlier file.

    told: (key, row) of further runs, which are not here.
    """
    groups: list[Group] = []
    for job in jobs:
        for found in _of_job(job, earlier):
            _add(groups, found)
    for key, row in told:
        for found in _of_file(key, row, earlier):
            _add(groups, found)
    return StudyRanks(tuple(groups))


def _of_file(key: str, row: str, earlier: StudyRanks) -> Iterator[Group]:
    known = earlier.find(key)
    if known is not None:
        yield replace(known[0], runs=(replace(known[1], rows=(row,)),))


def _of_job(job: Job, earlier: StudyRanks) -> Iterator[Group]:
    """A group of this one run; nothing where its ranks are nowhere."""
    path = job.folder.ranks
    if not path.is_file():
        yield from _of_file(job.key, job.row, earlier)
        return
    import polars as pl

    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError):
        logger.warning("%s cannot be read; its ranks are not kept", path)
        return
    if not set(NEEDED) <= set(table.columns):
        return
    made = job.folder.read("provenance.json")
    case, user, rank = (table[name].to_numpy() for name in NEEDED)
    history = table[HISTORY].to_numpy().astype(np.int64) if HISTORY in table.columns else None
    yield Group(
        str(job.folder.read("metrics.json").get("protocol")),
        str(made.get("data_fingerprint") or "unknown"),
        str(made.get("split_hash") or "unknown"),
        case.astype(np.int64),
        user.astype(np.int64),
        history,
        (KeptRun(job.key, job.seed, (job.row,), rank.astype(np.float64)),),
    )


def _add(groups: list[Group], found: Group) -> None:
    """Put a run to those with its cases; a run that is there already gets a further row."""
    (run,) = found.runs
    for i, group in enumerate(groups):
        if not group.has_cases_of(found):
            continue
        keys = [other.key for other in group.runs]
        if run.key in keys:
            runs = [
                replace(other, rows=tuple(dict.fromkeys((*other.rows, *run.rows)))) if other.key == run.key else other
                for other in group.runs
            ]
        else:
            runs = [*group.runs, run]
        history = group.history if found.history is not None else None
        groups[i] = replace(group, runs=tuple(runs), history=history)
        return
    groups.append(found)


def _identical(a: np.ndarray, b: np.ndarray) -> bool:
    return a is b or np.array_equal(a, b)


def _steps(values: np.ndarray) -> np.ndarray:
    """Differences from one to the next, in the smallest signed type that holds them: zeros and ones compress to nothing."""
    steps = np.diff(values.astype(np.int64), prepend=0)
    largest = int(np.abs(steps).max(initial=0))
    return steps.astype(next(kind for kind in ("<i1", "<i2", "<i4", "<i8") if largest <= np.iinfo(kind).max))


def _sums(steps: np.ndarray) -> np.ndarray:
    return np.cumsum(steps, dtype=np.int64)


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An npz whose bytes depend on the arrays alone: entries in order, without the time at which they were written."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name in sorted(arrays):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.create_system = zipfile.ZIP_LZMA, 3
            archive.writestr(entry, content.getvalue())
    return whole.getvalue()


def user_totals(kept: StudyRanks, keys: Sequence[str], metric: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(users [U], the metric's sum over each user's cases, averaged over runs [U]); None where a run is not kept or the users differ."""
    from recbench.evaluation.statistics.per_user import user_values

    found = []
    for key in keys:
        columns = kept.columns(key)
        if columns is None:
            return None
        found.append(user_values(metric, columns["rank"], columns["case"], columns["user"]))
    if not found or any(not np.array_equal(values.users, found[0].users) for values in found):
        return None
    return found[0].users, np.mean([values.totals for values in found], axis=0)
