"""``recbench compare RUN_FOLDER ...``: finished runs judged against each other, from their stored ranks.

Runs of one configuration but for the seed stand for one entrant. Means have 95 % intervals of users and seeds (paired bootstrap over
users, variance over seeds); entrants that share a letter are not told apart (all pairs, Holm, 5 %). With --reference every entrant's
difference to that one is given as a share of it, with its interval and p values. Where the runs have kept their lists
(evaluation.metrics=[stability]), a column says how much of a list the seeds of an entrant share,
and a line how much of it stays in runs that differ in training.resample_day alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.core.errors import UserError
from recbench.core.terminal import Parser, exit_status

if TYPE_CHECKING:
    from rich.table import Table

    from recbench.evaluation.statistics.compare import Verdict


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Raises UserError for what is no option."""
    parser = Parser(prog="recbench compare", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN_FOLDER", help="as in runs/sasrec-*")
    parser.add_argument("--metric", default="ndcg@10", help="ndcg, hr, mrr, recall or precision with a cutoff, or mrr")
    parser.add_argument("--reference", help="the entrant, or one of its runs, that the others are compared with")
    parser.add_argument("--resamples", type=int, default=10_000, help="of the users (default: 10,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples (default: 0)")
    parser.add_argument(
        "--lists", type=int, metavar="K", help="also how far any two agree in their top K, from their stored weights"
    )
    chosen = parser.parse_intermixed_args(arguments)
    if chosen.seed < 0:
        raise UserError(f"--seed must not be negative, not {chosen.seed}")
    if chosen.lists is not None and chosen.lists < 1:
        raise UserError(f"--lists must be at least 1, not {chosen.lists}")
    return chosen


def verdict_table(
    verdicts: Sequence[Verdict],
    metric: str,
    protocol: str,
    reference: str | None,
    marks: Mapping[str, str] | None = None,
    overlaps: Mapping[str, float] | None = None,
    cutoff: int = 10,
) -> Table:
    """The verdicts as a table for a terminal. marks: behind the names of entrants; overlaps: of their lists between seeds, over ``cutoff`` places."""
    from rich import box
    from rich.table import Table

    title = f"test {metric}, protocol {protocol}, {verdicts[0].n_users:,} users"
    table = Table(title=title, title_justify="left", box=box.ASCII2, pad_edge=False)
    table.add_column("")
    headings = [metric, "95 % interval", "sd of seeds", "seeds"]
    if reference is not None:
        headings += [f"against {reference}", "p", "p Holm", "p FDR"]
    if overlaps:
        headings.append(f"stability@{cutoff}")
    for heading in headings:
        table.add_column(heading, justify="right")
    table.add_column("group")
    for verdict in verdicts:
        sd = "-" if verdict.seed_deviation is None else f"{verdict.seed_deviation:.4f}"
        cells = [f"{verdict.mean:.4f}", f"{verdict.low:.4f} .. {verdict.high:.4f}", sd, str(verdict.n_seeds)]
        if reference is not None:
            cells += [_relative(verdict), *(_p(value) for value in (verdict.p, verdict.p_holm, verdict.p_fdr))]
        if overlaps:
            cells.append(f"{overlaps[verdict.name]:.4f}" if verdict.name in overlaps else "-")
        table.add_row(verdict.name + (marks or {}).get(verdict.name, ""), *cells, verdict.group)
    return table


def notes(verdicts: Sequence[Verdict]) -> str:
    """What a reader must know of the table, as one line."""
    said = ["entrants that share a letter are not told apart (all pairs, Holm, 5 %)"]
    single = sum(verdict.n_seeds == 1 for verdict in verdicts)
    if single:
        said.append(
            f"{single} of {len(verdicts)} have one seed only: nothing is known of how their other seeds would do"
        )
    return "; ".join(said)


def day_lines(folders: Sequence[Path], cutoff: int) -> list[str]:
    """A line for each configuration of which there are runs of one seed with the last day of training drawn anew."""
    from recbench.evaluation.lists.stability import day_stability
    from recbench.report.entrants import day_pairs

    said = []
    for name, pairs in day_pairs(folders).items():
        found = day_stability(pairs, cutoff)
        what = "no lists were kept: make the runs with evaluation.metrics=[stability]"
        if found is not None:
            what = f"{found:.4f} of a list stays when the last day of training is drawn anew ({len(pairs)} of a seed)"
        said.append(f"day_stability@{cutoff} of {name}: {what}")
    return said


def _relative(verdict: Verdict) -> str:
    if verdict.relative is None or verdict.relative_low is None or verdict.relative_high is None:
        return "-"
    return f"{100 * verdict.relative:+.1f} % [{100 * verdict.relative_low:+.1f}, {100 * verdict.relative_high:+.1f}]"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "<.0001" if value < 1e-4 else f"{value:.4f}"


def run_compare(arguments: list[str]) -> int:
    """Judge and print; returns the exit status. Raises UserError for wrong use."""
    chosen = read_arguments(arguments)
    from recbench.core.run_folder import RunFolder
    from recbench.core.terminal import show
    from recbench.evaluation.lists.stability import stability
    from recbench.evaluation.statistics.compare import judge
    from recbench.report.collect import read_run
    from recbench.report.entrants import entrants_of, find_reference
    from recbench.report.notes import doubts, entry_of, tuned_notes

    entrants = entrants_of(chosen.folders)
    reference = None if chosen.reference is None else find_reference(chosen.reference, entrants)
    verdicts = judge(entrants, chosen.metric, reference, chosen.resamples, chosen.seed)
    protocol = RunFolder(entrants[0].runs[0]).read("metrics.json")["protocol"]
    told = [entry_of(entrant.name, [read_run(path) for path in entrant.runs]) for entrant in entrants]
    marks = {entry.name: entry.marked.removeprefix(entry.name) for entry in told}
    cutoff = int(chosen.metric.partition("@")[2] or 10)
    overlaps = {e.name: found for e in entrants if (found := stability(e.runs, cutoff)) is not None}
    table = verdict_table(verdicts, chosen.metric, protocol, reference, marks, overlaps, cutoff)
    show(table, notes(verdicts), *tuned_notes(told, warn=True), *doubts(told))
    for line in day_lines(chosen.folders, cutoff):
        print(line)
    if chosen.lists is not None:
        from recbench.cli.agreement import agreement_table

        show(agreement_table([(entrant.name, entrant.runs[0]) for entrant in entrants], chosen.lists))
    return 0


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, or 2 for wrong use."""
    return exit_status(lambda: run_compare(arguments))
