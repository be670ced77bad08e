"""What ``recbench runs`` shows on a terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recbench.cli.stored.inventory import Inventory, size_of
from recbench.config.tuned import tuned_file
from recbench.core.errors import UserError
from recbench.core.terminal import short_number
from recbench.report.collect import StoredRun, deciding
from recbench.report.notes import MARK

if TYPE_CHECKING:
    from rich.table import Table

    from recbench.cli.stored.leftovers import Leftover
    from recbench.cli.stored.removal import Removal

#: Columns of the list, which are also what it can be sorted by.
COLUMNS = ("key", "model", "data", "protocol", "seed", "state", "metric", "size", "updated")
#: Figures that a run is shown with: the starts of their names.
FIGURES = ("test/", "validation/", "tokenizer/", "cost/")
#: Those that are shown unless all are asked for.
ACCURACY = re.compile(r"test/\w*?(ndcg|hr|mrr|coverage|cases)(@\d+)?")
COSTS = (
    "cost/train_seconds",
    "cost/train_seconds_with_dependencies",
    "cost/parameters_total",
    "cost/bytes_on_disk",
    "cost/peak_memory_bytes",
    "cost/latency_p50_ms",
)


def list_table(inventory: Inventory, runs: Sequence[StoredRun], sort: str, reasons: bool) -> Table:
    """One row a run. sort: one of COLUMNS; the best metric first, the largest and the newest last. reasons: why it has no result."""
    rows = [_row(inventory, run) for run in runs]
    rows.sort(key=lambda row: row["key"])
    rows.sort(key=lambda row: _order(row[sort], sort))
    measured = list(dict.fromkeys(row["metric"][0] for row in rows if row["metric"]))
    heading = measured[0].removeprefix("test/") if len(measured) == 1 else "metric"
    table = _table(f"{len(rows)} runs in {inventory.runs_dir}")
    for name in COLUMNS:
        table.add_column(
            heading if name == "metric" else name, justify="right" if name in ("metric", "size", "seed") else "left"
        )
    if reasons:
        table.add_column("reason")
    for row in rows:
        cells = [str(row[name]) for name in ("key", "model", "data", "protocol", "seed", "state")]
        table.add_row(
            *cells,
            _metric(row["metric"], len(measured) == 1),
            _bytes(row["size"]),
            _when(row["updated"]),
            *([row["reason"]] if reasons else []),
        )
    return table


def _row(inventory: Inventory, run: StoredRun) -> dict[str, Any]:
    def name(group: str) -> str:
        part = run.config.get(group)
        return str(part.get("name", "-")) if isinstance(part, Mapping) else "-"

    return {
        "key": run.key,
        "model": name("model") + (MARK if tuned_file(run.config) else ""),
        "data": name("data"),
        "protocol": str(run.metrics.get("protocol", name("protocol"))),
        "seed": run.config.get("seed", "-"),
        "state": inventory.state(run.key),
        "metric": headline(run.metrics),
        "size": size_of(run.path),
        "updated": run.status.get("updated"),
        "reason": run.reason,
    }


def headline(metrics: Mapping[str, Any]) -> tuple[str, float] | None:
    """(name, value) of the figure that decides between models, NDCG at 10 or at the largest cutoff; None without one."""
    from recbench.tracking.describe import headline as main_metric

    name = main_metric(metrics)
    return None if name is None else (name, float(metrics[name]))


def _order(value: Any, sort: str) -> tuple[Any, ...]:
    """What has no value comes last."""
    if sort == "metric":
        return (value is None, 0.0 if value is None else -value[1])
    if isinstance(value, int | float):
        return (False, value, "")
    return (value is None, float("inf"), str(value))


def show_parts(inventory: Inventory, run: StoredRun, everything: bool = False) -> list[Any]:
    """Tables and lines on one run. everything: all its figures, not only those that most people look at."""
    state = inventory.state(run.key)
    why = f", {run.reason}" if run.reason else ""
    parts: list[Any] = [f"{run.key}: {state}{why}, {_when(run.status.get('updated'))}, {run.path}", _choices(run)]
    figures = _figures(run.metrics, everything)
    if figures:
        table = _table(f"figures, protocol {run.metrics.get('protocol', '-')}")
        table.add_column("")
        table.add_column("", justify="right")
        for name, value in figures.items():
            table.add_row(name, f"{value:.6g}")
        parts.append(table)
    return [*parts, *_standing(inventory, run), _sizes(run)]


def _figures(metrics: Mapping[str, Any], everything: bool) -> dict[str, float]:
    """Figures in the order of FIGURES; without ``everything`` accuracy on test at the cutoffs, the deciding one on validation, a few costs."""
    found = {
        name: value for name, value in metrics.items() if isinstance(value, int | float) and name.startswith(FIGURES)
    }
    place = {name: next(i for i, start in enumerate(FIGURES) if name.startswith(start)) for name in found}
    found = {name: found[name] for name in sorted(found, key=place.__getitem__)}
    if everything:
        return found
    main = headline(metrics)
    kept = (*COSTS, "validation" + main[0].removeprefix("test") if main else "")
    return {n: v for n, v in found.items() if n in kept or n.startswith("tokenizer/") or ACCURACY.fullmatch(n)}


def _standing(inventory: Inventory, run: StoredRun) -> list[str]:
    """What it was made with, and what was made with it."""
    gone = {key for key in inventory.needs(run.key).values() if key not in inventory.runs}
    needs = [f"{role} {key}{' (removed)' if key in gone else ''}" for role, key in inventory.needs(run.key).items()]
    said = [
        f"made with: {', '.join(needs) or 'no other run'}",
        f"needed by: {', '.join(inventory.needed_by(run.key)) or 'no run here'}",
    ]
    maker = inventory.made_for(run.key)
    return said if maker is None else [*said, f"made for {maker}; nobody has asked for it itself"]


def _sizes(run: StoredRun) -> str:
    files = sorted(path for path in run.path.iterdir() if not path.name.startswith("."))
    sizes = [f"{path.name} {_bytes(size_of(path) if path.is_dir() else path.stat().st_size)}" for path in files]
    return f"size: {_bytes(size_of(run.path))} ({', '.join(sizes)})"


def _choices(run: StoredRun) -> Any:
    """What differs from the defaults of the model, the data and so on that it names."""
    try:
        usual = _defaults(run.config)
    except UserError as error:
        return f"its defaults are not known here: {error}"
    table = _table("chosen")
    for name in ("key", "value", "default"):
        table.add_column(name)
    for name, value in deciding(run.config).items():
        if name in ("model", "data", "protocol", "distillation", "compression"):
            table.add_row(name, str(value), "")
        elif name not in usual or usual[name] != value:
            table.add_row(name, str(value), str(usual.get(name, "-")))
    table.add_row("seed", str(run.seed), "1")
    return table


def _defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys of a run that names the same model, data and so on, and changes nothing."""
    from recbench.config.compose import compose

    groups = ("model", "data", "protocol", "distillation", "compression")
    named = [f"{group}={config[group]['name']}" for group in groups if isinstance(config.get(group), Mapping)]
    return deciding(compose(tuple(named)).as_dict())


def removal_table(inventory: Inventory, removal: Removal) -> Table:
    """What goes, and why."""
    table = _table("to be removed")
    for name in ("run", "size", "why"):
        table.add_column(name, justify="right" if name == "size" else "left")
    for key in removal.keys:
        why = "asked for" if key in removal.asked else "only they needed it"
        if key in removal.needed and inventory.made_for(key) is None:
            why += "; somebody may have asked for it itself"
        broken = [other for other, keys in removal.broken.items() if key in keys]
        table.add_row(
            key,
            _bytes(size_of(inventory.runs[key].path)),
            why + (f"; {', '.join(broken)} was made with it" if broken else ""),
        )
    return table


def leftovers_table(found: Sequence[Leftover]) -> Table:
    """What can go, why, and how much room it takes."""
    sizes = [size_of(left.path) for left in found]
    table = _table(f"what can go: {len(found)} folders, {_bytes(sum(sizes))}")
    for name in ("kind", "folder", "size", "why"):
        table.add_column(name, justify="right" if name == "size" else "left")
    for left, size in zip(found, sizes, strict=True):
        table.add_row(left.kind, left.path.name, _bytes(size), left.reason)
    return table


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", box=box.ASCII2, pad_edge=False)


def _metric(found: tuple[str, float] | None, is_named: bool) -> str:
    if found is None:
        return "-"
    return f"{found[1]:.4f}" if is_named else f"{found[0].removeprefix('test/')} {found[1]:.4f}"


def _bytes(size: float) -> str:
    return f"{short_number(size)}B"


def _when(seconds: Any) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if isinstance(seconds, int | float) else "-"
