"""``recbench tracking sync``: send finished runs that a tracking server has not heard of yet."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from recbench.config.schemas import option_values
from recbench.config.settings import TrackingConfig
from recbench.core.disk import is_full
from recbench.core.errors import UserError
from recbench.core.terminal import clean_line, exit_status, speak


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 all sent, 1 the server cannot be reached, 2 wrong use and a full disk."""
    return exit_status(lambda: _sync(arguments))


def _sync(arguments: list[str]) -> int:
    defaults = TrackingConfig(**option_values("tracking", "mlflow"))
    parser = argparse.ArgumentParser(prog="recbench tracking", description=__doc__)
    parser.add_argument("action", choices=["sync"])
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="folder of runs (default: runs)")
    parser.add_argument("--uri", default=defaults.uri, help=f"MLflow store (default: {defaults.uri})")
    parser.add_argument(
        "--experiment", default=defaults.experiment, help=f"MLflow experiment (default: {defaults.experiment})"
    )
    chosen = parser.parse_args(arguments)
    speak()
    if not chosen.runs_dir.is_dir():
        raise UserError(f"there is no folder {chosen.runs_dir}; name it with --runs-dir")
    from recbench.tracking.store import Unreachable
    from recbench.tracking.sync import sync

    config = TrackingConfig(uri=chosen.uri, experiment=chosen.experiment)
    sent = []
    try:
        for key in sync(chosen.runs_dir, config):
            print(f"sent {key}")
            sent.append(key)
    except Unreachable as error:
        print(f"error: MLflow is not reachable: {clean_line(error)}", file=sys.stderr)
        return 2 if is_full(error) else 1
    print(f"{len(sent)} sent, nothing left to send")
    return 0
