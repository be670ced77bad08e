"""``recbench tune model=sasrec data=amazon --trials 20``: search for better values, then name the best by a file.

It is a sweep of Hydra's with ``hydra/sweeper=tune``. What follows ``model=`` are overrides of every trial; the keys to search and their values
stand in conf/tuning/<model>.yaml, and any of them can be given on the command line instead, as in 'training.lr=tag(log, interval(1e-4, 1e-2))'.
"""

from __future__ import annotations

from recbench.cli.run import run_words
from recbench.core.terminal import exit_status
from recbench.study.tune.words import hydra_words, read_arguments


def main(arguments: list[str]) -> int:
    """Returns the exit status of the sweep, 2 for wrong use. Trials that failed are told, and make it 1."""
    return exit_status(lambda: run_words(hydra_words(read_arguments(arguments, __doc__))[1]))
