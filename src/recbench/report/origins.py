"""Two tables that a reader needs before trusting the others: where each row comes from, and which runs gave no result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from recbench.report.board import Board
from recbench.report.cells import EMPTY, Cell, Heading, Table
from recbench.report.collect import StoredRun

#: Packages whose version is in the table; the others are in provenance.json of the run.
SHOWN_PACKAGES = ("torch", "numpy")


@dataclass(frozen=True)
class Config:
    """The config of a row as YAML, without what changes no result. keys: its runs."""

    anchor: str
    name: str
    text: str
    keys: frozenset[str]


def configs_of(boards: Sequence[Board]) -> list[Config]:
    """One config a row, in the order of the boards; seeds of a row have one config but for the seed."""
    from recbench.core.yaml_text import dump_yaml

    found: dict[frozenset[str], Config] = {}
    for line in (line for board in boards for line in board.measured if line.row):
        assert line.row is not None
        keys = frozenset(run.key for run in line.row.runs)
        shown = {name: value for name, value in line.row.runs[0].config.items() if name not in (*PLACES, "seed")}
        seeds = [run.seed for run in line.row.runs]
        text = dump_yaml({"seed": seeds[0] if len(seeds) == 1 else seeds, **shown}, width=120)
        found.setdefault(keys, Config(f"config{len(found) + 1}", line.name, text, keys))
    return list(found.values())


def provenance_table(boards: Sequence[Board], configs: Sequence[Config] = ()) -> Table:
    """One row a run of a board. Columns that no run has are left out. A run is linked to its config."""
    found: dict[str, tuple[str, StoredRun]] = {}
    for board in boards:
        for line in board.measured:
            for run in line.row.runs if line.row else ():
                found.setdefault(run.key, (line.name, run))
    entries = list(found.values())
    anchors = {key: config.anchor for config in configs for key in config.keys}
    columns = {name: read for name, read in COLUMNS.items() if any(read(run) for _, run in entries)}
    headings = (
        Heading("row", numeric=False),
        Heading("run", "linked to its config", numeric=False),
        *(Heading(name, numeric=False, extra=name in EXTRA) for name in columns),
    )
    rows = tuple(
        (
            Cell(name),
            Cell(run.key, link=anchors.get(run.key, "")),
            *(Cell(read(run)) for read in columns.values()),
        )
        for name, run in entries
    )
    return Table("Where each run comes from", headings, rows, ("measured",) * len(rows))


def _commit(run: StoredRun) -> str:
    commit = str(run.provenance.get("commit") or "")[:10]
    if not commit:
        return "" if run.recorded else "installed package"
    return commit + (" + changes" if run.provenance.get("dirty") else "")


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
    "needs": lambda run: ", ".join(f"{role} {key}" for role, key in (run.metrics.get("dependencies") or {}).items()),
    "ended": lambda run: " ".join(run.reason.split()),
    "finished": lambda run: moment(run.status.get("updated")),
}


#: Columns that a reader must choose on the page.
EXTRA = ("threads", "determinism", "config", "data", "split")
#: Parts of a config that tell of places on a machine, and nothing of the result.
PLACES = ("runs_dir", "cache_dir", "tracking")


def moment(seconds: Any) -> str:
    """A time as a day and minute in UTC; empty if it is none."""
    try:
        return datetime.fromtimestamp(float(seconds), UTC).strftime("%Y-%m-%d %H:%M")
    except (TypeError, ValueError, OverflowError, OSError):
        return ""


def failures_table(failures: Sequence[tuple[str, StoredRun]], absent: Sequence[tuple[str, str]] = ()) -> Table:
    """(name, run) of runs without a result, then (name, reason) of runs that a study wants and that have no folder."""
    headings = tuple(Heading(text, numeric=False) for text in ("row", "run", "state", "reason", "last change"))
    rows = [
        (Cell(name), Cell(run.key), Cell(run.state), Cell(_reason(run)), Cell(moment(run.status.get("updated"))))
        for name, run in failures
    ]
    rows += [(Cell(name), EMPTY, Cell("not there"), Cell(reason), EMPTY) for name, reason in absent]
    return Table("Runs without a result", headings, tuple(rows), ("measured",) * len(rows))


def _reason(run: StoredRun) -> str:
    if run.state == "running":
        return "still running, or killed before it could say why"
    return " ".join(run.reason.split()) or "no reason is known"
