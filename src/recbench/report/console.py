"""Tables on a terminal: one run beside its floor and what it stands on, or the jobs of a sweep side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.config.run_name import run_name
from recbench.core.run_folder import RunFolder
from recbench.core.terminal import show
from recbench.data.split_audit import audit_line
from recbench.evaluation.added_metrics import TAKEN
from recbench.report.columns import ON_TERMINAL

if TYPE_CHECKING:
    from rich.table import Table


def show_sweep(records: Sequence[Mapping[str, Any]]) -> None:
    """One table a protocol, then the jobs that failed, each with its reason. Runs that several jobs share stand once."""
    finished: dict[str, tuple[str, dict[str, Any]]] = {}
    for record in records:
        folders = [Path(folder) for folder in record.get("folders", [])]
        for folder in folders:
            metrics = json.loads((folder / "metrics.json").read_text())
            finished.setdefault(str(folder), (run_name(RunFolder(folder).config()), metrics))
    protocols = sorted({metrics["protocol"] for _, metrics in finished.values()})
    for protocol in protocols:
        everything = [(label, metrics, "") for label, metrics in finished.values() if metrics["protocol"] == protocol]
        show(*codes_tables(everything))
        rows = [row for row in everything if "tokenizer/items" not in row[1]]
        if not rows:
            continue
        audits = [metrics["audit"] for _, metrics, _ in rows]
        notes = [audit_line(audits[0])] if all(audit == audits[0] for audit in audits) else []
        show(results_table(rows, protocol), *notes)
    show_outcome(records)


def show_outcome(records: Sequence[Mapping[str, Any]]) -> None:
    """The jobs of a sweep that failed, each with its reason, and the count."""
    failed = [record for record in records if record["status"]]
    for record in failed:
        show(f"failed: {' '.join(record['overrides'])}: {record['reason']}")
    there = sum(bool(record.get("reused")) for record in records)
    show(
        f"{len(records) - len(failed)} of {len(records)} jobs finished" + (f", {there} of them before" if there else "")
    )


def results_table(rows: Sequence[tuple[str, Mapping[str, Any], str]], protocol: str) -> Table:
    """Rows of (label, metrics, note) as a table; the best achievable row is added where the data know it."""
    from rich import box
    from rich.table import Table

    table = Table(title=f"test, protocol {protocol}", title_justify="left", box=box.ASCII2, pad_edge=False)
    names = _columns(rows[-1][1], protocol)
    # Runs of before these were measured have none of them.
    costs = {name: show for name, show in ON_TERMINAL.items() if any(name in metrics for _, metrics, _ in rows)}
    headings = (
        "model",
        *(name.removeprefix("test/") for name in names),
        *(heading for heading, _ in costs.values()),
        "",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("model", "") else "right")
    for label, metrics, note in rows:
        figures = [f"{metrics[name]:.4f}" if name in metrics else "-" for name in names]
        spent = [show(metrics[name]) if name in metrics else "-" for name, (_, show) in costs.items()]
        table.add_row(label, *figures, *spent, note)
    # The best score is known for the last event of a user, ranked against the whole catalogue.
    oracle = rows[-1][1].get("oracle", {}) if protocol.startswith("leave_one_out-full") else {}
    if any(name in oracle for name in names):
        table.add_section()
        best = [f"{oracle[name]:.4f}" if name in oracle else "-" for name in names]
        table.add_row("best achievable", *best, *[""] * (len(costs) + 1))
    return table


#: Levels of item codes that have a line; the others are in metrics.json.
SHOWN_LEVELS = 4
#: What is said of item codes: the start of the figures' names and their form.
CODES: Mapping[str, Callable[[float], str]] = {
    "distinct": "{:.1%}".format,
    "collision_rate": "{:.1%}".format,
    "largest_group": "{:.0f}".format,
    "reconstruction_error": "{:.3f}".format,
    "usage": "{:.0%}".format,
    "perplexity": "{:.0f}".format,
    "purity": "{:.1%}".format,
    "neighbour_recall": "{:.1%}".format,
}


def codes_tables(rows: Sequence[tuple[str, Mapping[str, Any], str]]) -> list[Table]:
    """One table of the runs that make item codes, level after level in a cell; none where there is no such run."""
    from rich import box
    from rich.table import Table

    made = [(label, metrics) for label, metrics, _ in rows if "tokenizer/items" in metrics]
    if not made:
        return []
    table = Table(
        title="item codes, level after level (in brackets: with the items dealt out at random)",
        title_justify="left",
        box=box.ASCII2,
        pad_edge=False,
    )
    for heading in ("", *(name.replace("_", " ") for name in CODES)):
        table.add_column(heading, justify="right" if heading else "left")
    for label, metrics in made:
        table.add_row(label, *(_of_levels(metrics, name, show) for name, show in CODES.items()))
    return [table]


def _of_levels(metrics: Mapping[str, Any], name: str, show: Callable[[float], str]) -> str:
    """One figure, or that of each level or depth; of a figure that chance has a share in, that share in brackets."""
    if f"tokenizer/{name}" in metrics:
        return show(metrics[f"tokenizer/{name}"])
    cells = []
    for level in range(1, min(int(metrics["tokenizer/levels"]), SHOWN_LEVELS) + 1):
        if f"tokenizer/{name}_{level}" not in metrics:
            return "-"
        by_chance = metrics.get(f"tokenizer/{name.removesuffix('_recall')}_chance_{level}")
        cells.append(
            show(metrics[f"tokenizer/{name}_{level}"]) + (f" ({show(by_chance)})" if by_chance is not None else "")
        )
    return "\n".join(cells)


def _columns(metrics: Mapping[str, Any], protocol: str) -> list[str]:
    """NDCG, hit rate, MRR and coverage at 10, or at the largest cutoff there is, whatever prefix the protocol gives them.

    Sessions show hit rate and MRR at 20 as well: what the papers on them call P@20 and MRR@20.
    """
    prefix = next(
        name.removeprefix("test/").split("ndcg@")[0] for name in metrics if "ndcg@" in name and name.startswith("test/")
    )
    cutoffs = sorted(
        int(n.split("@")[1]) for n in metrics if n.startswith(f"test/{prefix}ndcg@") and n.split("@")[1].isdigit()
    )
    k = 10 if 10 in cutoffs else cutoffs[-1]
    wanted = [f"ndcg@{k}", f"hr@{k}", "mrr", f"coverage@{k}"]
    if protocol.startswith("sessions-") and k != 20:
        wanted[:0] = ["hr@20", "mrr@20"]
    return [f"test/{prefix}{name}" for name in wanted if f"test/{prefix}{name}" in metrics] + _added(metrics, prefix, k)


def _added(metrics: Mapping[str, Any], prefix: str, k: int) -> list[str]:
    """The metrics of other packages at k: those that no run has of itself."""
    begin, end = f"test/{prefix}", f"@{k}"
    found = (name for name in metrics if name.startswith(begin) and name.endswith(end))
    return [name for name in found if name.removeprefix(begin).removesuffix(end) not in TAKEN]
