"""One run or a sweep: Hydra composes, the experiment runs, and a mistake of the user is one clear line and exit status 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from recbench.cli.words import asked_studies
from recbench.config.compose import launcher_words, opened, plain_mistakes
from recbench.core.errors import UserError
from recbench.core.terminal import speak
from recbench.training.processes.ranks import launched


def run_words(words: list[str]) -> int:
    """Run what the words ask for: one run, a sweep, or studies by name; returns the exit status."""
    # Hydra would print its own text for an error and exit with 1; with this it raises, and we speak.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else DDP warns of a flag that we set on purpose
    from recbench.config.hydra_source import register_sources
    from recbench.experiment import sweep

    speak()
    try:
        studies = asked_studies(words)
    except UserError as error:
        return _complain(str(error))
    if launched().world > 1 and (studies is not None or {"-m", "--multirun"} & set(words)):
        return _complain(
            "torchrun and srun start the processes of one run; leave out -m and +experiment, or start those without them"
        )
    if studies is not None:
        from recbench.cli.study import main as run_studies

        return max(run_studies(words) for words in studies)
    register_sources()
    outcome = sweep.Outcome()
    try:
        with plain_mistakes(), sweep.plain_folder_errors():
            _with_hydra([*map(opened, words), *launcher_words(words)], outcome.job)
    except UserError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    finally:
        sweep.end_early()
    return outcome.exit_status()


def _complain(message: str) -> int:
    if launched().leads:  # torchrun and srun start this several times
        print(f"error: {message}", file=sys.stderr)
    return 2


def _with_hydra(words: list[str], task: Callable[[Any], Any]) -> None:
    """As ``hydra.main`` runs a task, for the words that are given rather than for those of the process."""
    from hydra import version
    from hydra._internal.utils import _run_hydra, get_args_parser

    from recbench.config.hydra_source import TOP

    version.setbase("1.3")
    parser = get_args_parser()
    _run_hydra(args=parser.parse_args(words), args_parser=parser, task_function=task, config_path=None, config_name=TOP)
