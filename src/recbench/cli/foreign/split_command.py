"""``recbench export-split --to FOLDER --layout recbole|rectools [key=value ...]``: a prepared split as files that another framework reads.

Words choose data and protocol as for a run, as in data=amazon protocol=leave_one_out. What that framework then recommends comes back with
``recbench import-results``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recbench.core.errors import UserError
from recbench.core.terminal import Parser, exit_status, speak


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Raises UserError for wrong use."""
    parser = Parser(prog="recbench export-split", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="key=value", help="data, protocol, cache_dir")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder")
    parser.add_argument("--layout", choices=["recbole", "rectools"], required=True)
    chosen = parser.parse_intermixed_args(arguments)
    for word in chosen.words:
        if word.partition("=")[0].partition(".")[0] not in ("data", "protocol", "cache_dir") or "=" not in word:
            raise UserError(f"'{word}' says nothing of a split; give data=..., protocol=... or cache_dir=...")
    return chosen


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, or 2 for wrong use."""
    return exit_status(lambda: _main(arguments))


def _main(arguments: list[str]) -> int:
    chosen = read_arguments(arguments)
    speak()
    from recbench.cli.foreign.asked import asked_run
    from recbench.cli.foreign.layouts import write_split
    from recbench.experiment.context import RunContext

    config = asked_run(chosen.words)
    stage = RunContext.of(config)
    counts = write_split(stage.data, stage.split, chosen.layout, chosen.to)
    told = ", ".join(f"{count:,} of {name}" for name, count in counts.items())
    print(f"{chosen.to}: {stage.split.protocol_id}, events: {told}")
    return 0
