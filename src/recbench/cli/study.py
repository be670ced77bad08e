"""``recbench study NAME``: run what is missing of a study, then write its results and its table."""

from __future__ import annotations

import argparse
import os

from recbench.core.errors import UserError
from recbench.core.stops import stopped_by_signals
from recbench.core.terminal import Parser, exit_status, speak


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Raises UserError for what is no option and no key=value."""
    from recbench.study.values import WORD

    parser = Parser(prog="recbench study", description=__doc__)
    parser.add_argument("study", help="a folder of experiments/, or the path of a study.yaml")
    parser.add_argument("words", nargs="*", metavar="key=value", help="keys for every run, as in data.raw_dir=FOLDER")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time (default: one a core)")
    parser.add_argument(
        "--dry", action="store_true", help="only say what is there and what is missing; downloads and trains nothing"
    )
    parser.add_argument(
        "--hours",
        action="store_true",
        help="with --dry: estimate the hours of what is missing by a few timed training steps a row",
    )
    parser.add_argument(
        "--rows",
        metavar="ROW,ROW",
        default="",
        help="train these rows alone, or with --dry ask about them alone; results and table are of all that is finished",
    )
    parser.add_argument(
        "--missing",
        action="store_true",
        help="do not make again what results.csv tells of runs that are not here; with --dry count it as there",
    )
    parser.add_argument(
        "--table", action="store_true", help="train nothing; rewrite results.csv and the table from what is there"
    )
    chosen = parser.parse_intermixed_args(arguments)
    if chosen.hours and not chosen.dry:
        raise UserError("--hours goes with --dry")
    if chosen.jobs < 1:
        raise UserError(f"--jobs must be at least 1, not {chosen.jobs}")
    chosen.rows = [name for name in chosen.rows.split(",") if name]
    for option in ("rows", "missing"):
        if getattr(chosen, option) and chosen.table:
            raise UserError(f"--{option} goes with training and with --dry, not with --table")
    for word in chosen.words:
        if not WORD.fullmatch(word):
            raise UserError(f"cannot read '{word}'; write key=value, as in data.raw_dir=FOLDER")
    return chosen


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 all there, 1 a run failed, 2 wrong use, 130 stopped from the keyboard."""
    speak()

    def run() -> int:
        chosen = read_arguments(arguments)
        from recbench.study.run import run_study

        if chosen.dry:
            from recbench.study.dry import dry_run

            return dry_run(
                chosen.study, tuple(chosen.words), hours=chosen.hours, rows=chosen.rows, missing=chosen.missing
            )
        return run_study(
            chosen.study,
            tuple(chosen.words),
            chosen.jobs,
            table_only=chosen.table,
            rows=chosen.rows,
            missing=chosen.missing,
        )

    with stopped_by_signals():
        return exit_status(
            run, stopped="stopped; the same command goes on with what is missing, from checkpoints where there are any"
        )
