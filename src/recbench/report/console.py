"""Tables on a terminal: one run beside its floor and what it stands on, or the jobs of a sweep side by side."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.config.run_name import run_name
from recbench.core.terminal import show
from recbench.data.split_audit import audit_line
from recbench.evaluation.added_metrics import TAKEN
from recbench.evaluation.clicks import METRICS as CLICK_METRICS
from recbench.report.collect import StoredRun, read_run, say_damaged
from recbench.report.columns import ON_TERMINAL
from recbench.report.notes import Entry, doubts, entry_of, tuned_notes
from recbench.report.rows import Row, rows_of
from recbench.report.views import data_label

if TYPE_CHECKING:
    from rich.table import Table


def show_sweep(records: Sequence[Mapping[str, Any]]) -> None:
    """For each data set and protocol a table of the runs and, where rows have several seeds, one of their means; then what must be known of
    the rows, and the jobs that failed, each with its reason. Runs that several jobs share stand once."""
    folders = dict.fromkeys(Path(folder) for record in records for folder in record.get("folders", []))
    found = [read_run(folder) for folder in folders]
    finished = [run for run in found if run.config and "protocol" in run.metrics]
    say_damaged(run for run in found if run not in finished)
    places = dict.fromkeys((data_label(run.config), str(run.metrics["protocol"])) for run in finished)
    several = len({data for data, _ in places}) > 1
    for data, protocol in sorted(places):
        runs = [run for run in finished if (data_label(run.config), run.metrics["protocol"]) == (data, protocol)]
        _show_place(runs, protocol, f"{protocol}, data {data}" if several else protocol)
    show_outcome(records)


def _show_place(runs: Sequence[StoredRun], protocol: str, title: str) -> None:
    entries = [Entry(run_name(run.config), run.config, run.metrics) for run in runs]
    everything = [(entry.marked, entry.metrics, "") for entry in entries]
    show(*codes_tables(everything))
    shown = [row for row in everything if "tokenizer/items" not in row[1]]
    if not shown:
        return
    audits = [metrics["audit"] for _, metrics, _ in shown]
    notes = [audit_line(audits[0])] if all(audit == audits[0] for audit in audits) else []
    rows = rows_of([run for run in runs if "tokenizer/items" not in run.metrics])
    means = [seeds_table(rows, protocol, title)] if any(len(row.runs) > 1 for row in rows) else []
    told = [entry_of(row.name, row.runs) for row in rows]
    show(results_table(shown, protocol, title), *notes, *means, *tuned_notes(told, warn=True), *doubts(told))


def seeds_table(rows: Sequence[Row], protocol: str, title: str) -> Table:
    """Rows as means over their seeds, ± the standard deviation, with the number of seeds; the best first."""
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"mean ± sd over seeds, test, protocol {title}", title_justify="left", box=box.ASCII2, pad_edge=False
    )
    names = _columns(rows[-1].runs[-1].metrics, protocol)
    for heading in ("model", *(name.removeprefix("test/") for name in names), "n"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    entries = [(entry_of(row.name, row.runs), row.runs) for row in rows]
    for entry, runs in sorted(entries, key=lambda pair: -float(pair[0].metrics.get(names[0], 0.0))):
        table.add_row(entry.marked, *(_mean(runs, name) for name in names), str(len(runs)))
    return table


def _mean(runs: Sequence[StoredRun], name: str) -> str:
    values = [float(run.metrics[name]) for run in runs if name in run.metrics]
    if len(values) < len(runs):
        return "-"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread}"


def show_outcome(records: Sequence[Mapping[str, Any]]) -> None:
    """The jobs of a sweep that failed, each with its reason, and the count."""
    failed = [record for record in records if record["status"]]
    for record in failed:
        show(f"failed: {' '.join(record['overrides'])}: {record['reason']}")
    there = sum(bool(record.get("reused")) for record in records)
    show(
        f"{len(records) - len(failed)} of {len(records)} jobs finished" + (f", {there} of them before" if there else "")
    )


def results_table(rows: Sequence[tuple[str, Mapping[str, Any], str]], protocol: str, title: str | None = None) -> Table:
    """Rows of (label, metrics, note) as a table; the best achievable row is added where the data know it. title: in place of the protocol."""
    from rich import box
    from rich.table import Table

    table = Table(title=f"test, protocol {title or protocol}", title_justify="left", box=box.ASCII2, pad_edge=False)
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


def cold_lines(metrics: Mapping[str, Any], prefix: str) -> list[str]:
    """What a run says of targets whose item has no training event: a line, or none where there is no such target."""
    if "cold/targets" not in metrics:
        return []
    names = [name.removeprefix("cold/") for name in metrics if name.startswith(f"cold/{prefix}ndcg@")]
    name = next((name for name in names if name.endswith("@10")), names[-1])
    others = f", {metrics[f'warm/{name}']:.4f} for the others" if f"warm/{name}" in metrics else ""
    return [
        f"{metrics['cold/targets']:,} targets are items without a training event: {name} {metrics[f'cold/{name}']:.4f} for them{others}"
    ]


#: Levels of item codes that have a line; the others are in metrics.json.
SHOWN_LEVELS = 4
#: Figures of one model asked for other quantiles (``dt4rec``), and those that say what their neighbours say.
CURVE = re.compile(r"(rewarded_)?q\d+_|rewarded_hr$")
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
    if "test/auc" in metrics:
        return [name for name in (f"test/{metric}" for metric in CLICK_METRICS) if name in metrics]
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
    """The metrics of other packages at k: those that no run has of itself; without the curve of a model that is asked for several quantiles."""
    begin, end = f"test/{prefix}", f"@{k}"
    found = (name for name in metrics if name.startswith(begin) and name.endswith(end))
    plain = ((name, name.removeprefix(begin).removesuffix(end)) for name in found)
    return [name for name, metric in plain if metric not in TAKEN and not CURVE.match(metric)]
