"""Final runs as a study's results.csv tells them, for a report where their folders are not here.

What results.csv does not hold is left out: learning curves, versions, the whole config. Ranks come from ranks.npz, where the study has it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbench.report.collect import StoredRun
from recbench.study.definition import METRIC, OWN_NAMES, Study
from recbench.study.ranks_file import StudyRanks
from recbench.study.values import key_of

Line = Mapping[str, str]
#: Figures of a run's weights under another protocol: the start of their names, and the column with that protocol.
ASKED = {r"sampled\d+_": "sampled_protocol", "keep_": "keep_protocol", "mask_": "mask_protocol"}
#: Columns that are no figures.
OTHERS = (
    "row", "phase", "seed", "chosen", "key", "data", "protocol", "dependencies", "commit", "cut_off", "values_from", "loss", "uniform_loss",
)  # fmt: skip


def lines_of(path: Path, study: Study) -> list[Line]:
    """The lines of a results.csv that are runs of rows of the study; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [line for line in csv.DictReader(file) if line.get("row") in study.rows and line.get("key")]


def final_lines(path: Path, study: Study) -> list[Line]:
    """Those that are final runs."""
    return [line for line in lines_of(path, study) if line.get("phase") == "final"]


def recorded_runs(
    study: Study, lines: Sequence[Line], kept: StudyRanks, runs_dir: Path, known: Sequence[StoredRun]
) -> dict[str, StoredRun]:
    """Key -> run, of the lines that tell their protocol. known: runs of the study that are here; a recorded run of the same data and
    protocol shares a table with them."""
    found: dict[str, StoredRun] = {}
    for line in lines:
        if line.get("protocol") and line["key"] not in found:
            found[line["key"]] = _run(study, line, kept, runs_dir, known)
    return found


def _run(study: Study, line: Line, kept: StudyRanks, runs_dir: Path, known: Sequence[StoredRun]) -> StoredRun:
    key, row = line["key"], study.rows[line["row"]]
    words = [*row.overrides, *(f"{name}={line[name]}" for name in row.search if line.get(name))]
    model = next((word.split("=", 1)[1] for word in words if key_of(word) == "model"), "")
    data = line.get("data") or _data_of(words)
    metrics, asked = _figures(study, line)
    commit = line.get("commit") or ""
    provenance: dict[str, Any] = {"commit": commit.removesuffix("-dirty"), "dirty": commit.endswith("-dirty")}
    return StoredRun(
        path=runs_dir / key,
        state="finished",
        reason="told by results.csv",
        config={
            "seed": int(line["seed"]) if line.get("seed", "").isdigit() else line.get("seed"),
            "model": {"name": model},
            "data": {"name": data},
            "overrides": words,
            **({"tuned": {"name": line["values_from"]}} if line.get("values_from") else {}),
        },
        metrics=metrics,
        provenance=provenance | _place(kept, key, data, line["protocol"], known),
        status={"state": "finished"},
        asked=asked,
        recorded=True,
        held=kept.columns(key),
    )


def _data_of(words: Sequence[str]) -> str:
    """Data in the words of the command line, for files that were written before they had a column for it."""
    chosen = {key_of(word): word.split("=", 1)[1] for word in words}
    return " ".join(chosen[key] for key in ("data", "data.version", "data.category") if key in chosen) or "unknown data"


def _place(kept: StudyRanks, key: str, data: str, protocol: str, known: Sequence[StoredRun]) -> dict[str, Any]:
    """Fingerprint and split of a run: as ranks.npz has them, else those of a run that is here and was asked the same."""
    from recbench.report.views import data_label

    found = kept.find(key)
    if found is not None:
        return {"data_fingerprint": found[0].fingerprint, "split_hash": found[0].split}
    alike = [run for run in known if run.metrics.get("protocol") == protocol and data_label(run.config) == data]
    names = ("data_fingerprint", "split_hash")
    return {name: alike[0].provenance[name] for name in names if name in alike[0].provenance} if alike else {}


def _figures(study: Study, line: Line) -> tuple[dict[str, Any], tuple[Mapping[str, Any], ...]]:
    """(metrics as in metrics.json, further ones as in its files ``metrics-*.json``)."""
    searched = {key for row in study.rows.values() for key in row.search}
    metrics: dict[str, Any] = {"protocol": line["protocol"], "cut_off": line.get("cut_off") == "True"}
    metrics["dependencies"] = dict(part.split("=", 1) for part in line.get("dependencies", "").split() if "=" in part)
    loss, uniform = (_number(line.get(name)) for name in ("loss", "uniform_loss"))
    if loss is not None and uniform is not None:
        metrics["doubts"] = {"loss": loss, "uniform_loss": uniform}
    asked: dict[str, dict[str, Any]] = {}
    for name, text in line.items():
        value = None if name in OTHERS or name in searched else _number(text)
        if value is None:
            continue
        column = next((of for start, of in ASKED.items() if re.match(start, name) and line.get(of)), None)
        if column is not None:
            asked.setdefault(column, {column: line[column]})[f"test/{name}"] = value
        elif name.startswith("validation_"):
            metrics[f"validation/{name.removeprefix('validation_')}"] = value
        elif name.startswith(OWN_NAMES):
            metrics[name] = value
        else:
            metrics[f"{'test' if METRIC.fullmatch(name) else 'cost'}/{name}"] = value
    return metrics, tuple(asked.values())


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
