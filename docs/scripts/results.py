"""The tables of the page Results, made from the ``results.csv`` that each study commits."""

from __future__ import annotations

import csv
import re
import statistics
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
#: Figures of a table beside a study's own metrics.
COSTS = ("parameters_total", "train_seconds")
MOST_METRICS = 4

Record = dict[str, str]


def studies() -> list[Path]:
    """Folders of the studies that have both a definition and results."""
    return [
        path.parent for path in sorted(ROOT.glob("experiments/*/results.csv")) if (path.parent / "study.yaml").is_file()
    ]


def records(folder: Path) -> list[Record]:
    """The final runs of a study: those that its table counts. Runs of a search are left out."""
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["phase"] == "final"]


def columns(definition: dict[str, Any]) -> list[str]:
    """What a table of this page shows: the study's first metrics, then size and training time."""
    names = [name for name in definition["columns"] if name not in COSTS and not name.startswith(("alone_", "best_"))]
    return [*names[:MOST_METRICS], *(name for name in COSTS if name in definition["columns"])]


def short(column: str, values: list[float]) -> str:
    """A mean, with its standard deviation where there are several seeds."""
    if not values:
        return ""
    mean = statistics.mean(values)
    if column == "parameters_total":
        for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
            if mean >= size:
                return f"{mean / size:.1f}{unit}"
        return f"{mean:.0f}"
    if column == "train_seconds":
        return f"{mean:,.0f}" if mean >= 100 else f"{mean:.3g}"
    spread = f" ± {_decimals(statistics.stdev(values))}" if len(values) > 1 else ""
    return _decimals(mean) + spread


def _decimals(value: float) -> str:
    if abs(value) >= 2:
        return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
    return f"{value:.4f}".removeprefix("0")


def table(rows: list[Record], names: list[str]) -> str:
    """One table: a line a row of the study, and a note where a training was cut off."""
    groups: dict[str, list[Record]] = {}
    for record in rows:
        groups.setdefault(record["row"], []).append(record)
    lines = ["| row | " + " | ".join(names) + " | seeds |", "|---|" + "---:|" * (len(names) + 1)]
    figures = {name: [[float(r[c]) for r in group if r.get(c)] for c in names] for name, group in groups.items()}
    for name, values in figures.items():
        cells = [short(column, found) for column, found in zip(names, values, strict=True)]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {len(groups[name])} |")
    stopped = [name for name, group in groups.items() if any(record.get("cut_off") == "True" for record in group)]
    if stopped:
        lines += [
            "",
            f"Ended by `training.max_epochs` before validation had stopped rising, so perhaps not trained to the end: {', '.join(stopped)}.",
        ]
    return "\n".join(lines)


def study_section(folder: Path) -> str:
    """A study's question, its tables by data and protocol, and where to read its verdict."""
    definition = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    title = (folder / "README.md").read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")
    asked: dict[tuple[str, str], list[Record]] = {}
    for record in records(folder):
        asked.setdefault((record.get("data", ""), record["protocol"]), []).append(record)
    parts = [f"## {title}", definition["question"].strip()]
    for (data, protocol), rows in asked.items():
        where = f"Data `{data}`, protocol" if data else "Protocol"
        parts += [f"{where} `{protocol}`.", table(rows, columns(definition))]
    commits = sorted({record["commit"][:7] for record in records(folder) if record.get("commit")})
    name = folder.name
    parts.append(
        f"Set-up and verdict: [{name}](../experiments/{name}/README.md). Definition: [study.yaml](../experiments/{name}/study.yaml). "
        f"Every run: [results.csv](../experiments/{name}/results.csv)."
        + (f" Code of {_commits(commits)}." if commits else "")
    )
    return "\n\n".join(parts)


def _commits(names: list[str]) -> str:
    return ("commit " if len(names) == 1 else "commits ") + ", ".join(
        f"`{re.sub(r'[^0-9a-f]', '', name)}`" for name in names
    )


def page() -> str:
    """All studies, one below the other."""
    return "\n\n".join(study_section(folder) for folder in studies())
