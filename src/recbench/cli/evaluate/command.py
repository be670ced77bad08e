"""``recbench evaluate RUN_FOLDER [key=value ...]``: test a finished run on other data of the same items, by another protocol, or with other metrics.

Words begin with data, protocol, evaluation or hardware, as in data=table data.path=new.csv protocol=temporal; what no word
names is as in the run. The answer is printed and kept in the folder ``evaluations`` beside the run, which stays as it is. Items are the same where
their raw ids are; data of other items are refused, unless --unknown skip leaves their events out. Two of the printed figures say how far the
question is fair: the share of targets that the run was trained on, and the share of targets whose item it never saw.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.cli.recommend.unknown import add_unknown
from recbench.core.errors import UserError
from recbench.core.terminal import Parser, exit_status, show, speak

if TYPE_CHECKING:
    from rich.table import Table

    from recbench.cli.evaluate.ask import Answer


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Raises UserError for wrong use."""
    parser = Parser(prog="recbench evaluate", description=__doc__)
    parser.add_argument(
        "words", nargs="+", metavar="RUN_FOLDER | key=value", help="a finished run, and what it is asked"
    )
    add_unknown(parser, "events")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--cache-dir", type=Path, help="where prepared data are, if not where the run found them")
    parser.add_argument("--raw-dir", type=Path, help="where the run's raw data are, if not where the run found them")
    chosen = parser.parse_intermixed_args(arguments)
    folders = [word for word in chosen.words if "=" not in word]
    if len(folders) != 1:
        raise UserError(
            f"name one run folder, not {len(folders) or 'none'}, as in recbench evaluate runs/sasrec-3f9c2b71a0d4 protocol=temporal"
        )
    chosen.run, chosen.words = Path(folders[0]), [word for word in chosen.words if "=" in word]
    return chosen


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, or 2 for wrong use."""
    return exit_status(lambda: _main(arguments))


def _main(arguments: list[str]) -> int:
    chosen = read_arguments(arguments)
    speak()
    from recbench.cli.evaluate.ask import ask
    from recbench.cli.recommend.model_of_run import open_model

    opened = open_model(chosen.run, chosen.cache_dir, chosen.raw_dir)
    answer = ask(opened, chosen.run.absolute().parent, chosen.words, chosen.unknown == "skip")
    if chosen.json:
        print(json.dumps({"folder": str(answer.folder.path), **answer.metrics}, indent=1, default=str))
    else:
        show(figures_table(opened.key, answer.metrics), *notes(answer))
    return 0


def figures_table(key: str, metrics: dict[str, Any]) -> Table:
    """Every figure of the test: one row a metric, one column a cutoff; what has no cutoff stands in the last column."""
    from rich import box
    from rich.table import Table

    figures = {name.removeprefix("test/"): value for name, value in metrics.items() if name.startswith("test/")}
    cutoffs = sorted({int(cut) for name in figures if (cut := name.partition("@")[2]).isdigit()})
    table = Table(
        title=f"{key}: test, protocol {metrics['protocol']}", title_justify="left", box=box.ASCII2, pad_edge=False
    )
    table.add_column("")
    for heading in (*(f"@{cutoff}" for cutoff in cutoffs), "at any"):
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(name.partition("@")[0] for name in figures):
        cells = [figures.get(f"{name}@{cutoff}") for cutoff in cutoffs]
        table.add_row(name, *("" if value is None else _shown(value) for value in (*cells, figures.get(name))))
    return table


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def notes(answer: Answer) -> list[str]:
    """What a reader must know of the figures, and where they are."""
    from recbench.data.split_audit import audit_line

    metrics = answer.metrics
    said = [audit_line(metrics["audit"])]
    if metrics["test/trained_targets"]:
        said.append(f"not a fair test: the run was trained on {metrics['test/trained_targets']:.1%} of the targets")
    if metrics["test/untrained_targets"]:
        said.append(
            f"{metrics['test/untrained_targets']:.1%} of the targets are items without an event in the run's training"
        )
    unknown, absent = metrics["catalogue/items_unknown"], metrics["catalogue/items_without_event"]
    if unknown or absent:
        said.append(
            f"left out: {metrics['catalogue/events_unknown']:,} events of {unknown:,} items that the run does not know; {absent:,} items of the "
            "run have no event in these data and are ranked all the same"
        )
    return [*said, f"evaluation: {answer.folder.path}{' (there already)' if answer.reused else ''}"]
