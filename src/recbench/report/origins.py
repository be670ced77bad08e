"""Two tables that a reader needs before trusting the others: where each row comes from, and which runs gave no result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from recbench.report.board import Board
from recbench.report.collect import StoredRun
from recbench.report.tables import EMPTY, Cell, Heading, Table

#: Packages whose version stands in the table; the others are in provenance.json of the run.
SHOWN_PACKAGES = ("torch", "numpy")


def provenance_table(boards: Sequence[Board]) -> Table:
    """One row a run that stands on a board. Columns that no run has, as of versions before they were recorded, are left out."""
    found: dict[str, tuple[str, StoredRun]] = {}
    for board in boards:
        for line in board.measured:
            for run in line.row.runs if line.row else ():
                found.setdefault(run.key, (line.name, run))
    entries = list(found.values())
    columns = {name: read for name, read in COLUMNS.items() if any(read(run) for _, run in entries)}
    headings = (
        Heading("row", numeric=False),
        Heading("run", numeric=False),
        *(Heading(name, numeric=False) for name in columns),
    )
    rows = tuple((Cell(name), Cell(run.key), *(Cell(read(run)) for read in columns.values())) for name, run in entries)
    return Table("Where each run comes from", headings, rows, ("measured",) * len(rows))


def _commit(run: StoredRun) -> str:
    commit = str(run.provenance.get("commit") or "")[:10]
    return commit + (" + changes" if run.provenance.get("dirty") else "") if commit else "installed package"


def _device(run: StoredRun) -> str:
    gpus = run.provenance.get("gpu") or []
    said = ", ".join(map(str, gpus)) if isinstance(gpus, list) else str(gpus)
    return said or str(run.provenance.get("processor", ""))


def _versions(run: StoredRun) -> str:
    versions = run.provenance.get("versions") or {}
    said = [f"{name} {versions[name]}" for name in SHOWN_PACKAGES if name in versions]
    return ", ".join([*said, *([f"Python {run.provenance['python']}"] if "python" in run.provenance else [])])


def _plain(name: str) -> Callable[[StoredRun], str]:
    return lambda run: str(run.provenance.get(name) or "")


def _hashes(name: str) -> Callable[[StoredRun], str]:
    return lambda run: str(run.provenance.get(name) or "")[:12]


#: What is said of a run: heading -> how to read it; "" where it is not known.
COLUMNS: Mapping[str, Callable[[StoredRun], str]] = {
    "seed": lambda run: "" if run.seed is None else str(run.seed),
    "commit": _commit,
    "versions": _versions,
    "device": _device,
    "threads": _plain("threads"),
    "determinism": _plain("determinism"),
    "config": _hashes("config_hash"),
    "data": _hashes("data_fingerprint"),
    "split": _hashes("split_hash"),
    "stands on": lambda run: ", ".join(
        f"{role} {key}" for role, key in (run.metrics.get("dependencies") or {}).items()
    ),
    "ended": lambda run: " ".join(run.reason.split()),
    "finished": lambda run: moment(run.status.get("updated")),
}


def moment(seconds: Any) -> str:
    """A time as a day and minute in UTC; empty if it is none."""
    try:
        return datetime.fromtimestamp(float(seconds), UTC).strftime("%Y-%m-%d %H:%M")
    except (TypeError, ValueError, OverflowError, OSError):
        return ""


def failures_table(failures: Sequence[tuple[str, StoredRun]], absent: Sequence[tuple[str, str]] = ()) -> Table:
    """(name, run) of runs without a result, then (name, reason) of those that a study wants and that have no folder."""
    headings = tuple(Heading(text, numeric=False) for text in ("row", "run", "state", "reason", "last sign of life"))
    rows = [
        (Cell(name), Cell(run.key), Cell(run.state), Cell(_reason(run)), Cell(moment(run.status.get("updated"))))
        for name, run in failures
    ]
    rows += [(Cell(name), EMPTY, Cell("not there"), Cell(reason), EMPTY) for name, reason in absent]
    return Table("Runs without a result", headings, tuple(rows), ("measured",) * len(rows))


def _reason(run: StoredRun) -> str:
    if run.state == "running":
        return "still running, or killed without a word"
    return " ".join(run.reason.split()) or "no reason was left"
