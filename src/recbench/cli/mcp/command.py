"""``recbench mcp RUN_FOLDER ...``: finished runs as tools of the Model Context Protocol, over stdin and stdout (extra 'mcp').

Tools: recommend, explain_run, compare. They read and write nothing else. The first run is the one that is asked unless a key names another.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
from pathlib import Path

from recbench.core.errors import UserError
from recbench.core.terminal import Parser, exit_status


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Raises UserError for wrong use."""
    parser = Parser(prog="recbench mcp", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_FOLDER", help="finished runs, as in runs/sasrec-*")
    parser.add_argument("--cache-dir", type=Path, help="where prepared data are, if not where the run found them")
    parser.add_argument("--raw-dir", type=Path, help="where raw data are, if not where the run found them")
    parser.add_argument("--check", action="store_true", help="open the first run, name the tools, and end")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, or 2 for wrong use."""
    return exit_status(lambda: _main(arguments))


def _main(arguments: list[str]) -> int:
    chosen = read_arguments(arguments)
    from recbench.cli.mcp.tools import TOOLS, Runs

    runs = Runs.of(chosen.runs, chosen.cache_dir, chosen.raw_dir)
    if chosen.check:
        print(f"{runs.opened(None).key}: {', '.join(TOOLS)}; {len(chosen.runs)} run(s)")
        return 0
    if importlib.util.find_spec("mcp") is None:
        raise UserError("recbench mcp needs the extra 'mcp'; install it with: pip install 'recbench[mcp]'")
    from recbench.cli.mcp.server import make_server

    print(f"answering for {len(chosen.runs)} run(s) on stdin and stdout", file=sys.stderr)
    with contextlib.redirect_stdout(
        sys.__stdout__
    ):  # the protocol writes bytes, which the filter of the command line does not take
        make_server(runs).run()
    return 0
