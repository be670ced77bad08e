"""``recbench import-results FILE --name NAME [key=value ...]``: ranks or lists of another framework, beside our runs.

FILE is CSV, TSV, JSON lines or Parquet with raw ids. Lists: columns user, item and rank (from 1) or score, the best k items of every user.
Ranks: columns user, target and rank, the rank of every target among all items, halves where scores tie. Words choose the data and the protocol
of the split that was asked. The file is checked against that split's users, and a run folder is written that ``recbench compare`` and
``recbench report`` read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recbench.core.errors import UserError
from recbench.core.terminal import Parser, exit_status, speak


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Raises UserError for wrong use."""
    parser = Parser(prog="recbench import-results", description=__doc__)
    parser.add_argument(
        "words", nargs="+", metavar="FILE | key=value", help="one file; data, protocol, evaluation, runs_dir"
    )
    parser.add_argument("--name", required=True, help='what its row is called, as in "SASRec (RecBole)"')
    parser.add_argument(
        "--seed", type=int, default=1, help="of the foreign training (default: 1): runs of one name differ by it"
    )
    chosen = parser.parse_intermixed_args(arguments)
    files = [word for word in chosen.words if "=" not in word]
    if len(files) != 1:
        raise UserError(f"name one file of results, not {len(files) or 'none'}")
    chosen.file, chosen.words = Path(files[0]), [word for word in chosen.words if "=" in word]
    for word in chosen.words:
        if word.partition("=")[0].partition(".")[0] not in ("data", "protocol", "evaluation", "cache_dir", "runs_dir"):
            raise UserError(
                f"'{word}' says nothing of a split; give data=..., protocol=..., evaluation=... or runs_dir=..."
            )
    if not chosen.name.strip() or chosen.seed < 0:
        raise UserError("--name must not be empty, and --seed not negative")
    return chosen


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, or 2 for wrong use."""
    return exit_status(lambda: _main(arguments))


def _main(arguments: list[str]) -> int:
    chosen = read_arguments(arguments)
    speak()
    from recbench.cli.foreign.asked import asked_run
    from recbench.cli.foreign.results import import_results

    config = asked_run([*chosen.words, f"seed={chosen.seed}"])
    folder, metrics = import_results(chosen.file, chosen.name.strip(), config)
    shown = [
        f"{name.removeprefix('test/')} {value:.4f}"
        for name, value in metrics.items()
        if name.endswith("@10") and name.startswith("test/")
    ]
    print(
        f"{folder.path}: {chosen.name}, {metrics['protocol']}, {metrics['test/cases']:,} cases; {', '.join(shown[:3])}"
    )
    return 0
