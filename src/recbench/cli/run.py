"""One run or a sweep: Hydra composes, the experiment runs, and a mistake of the user is one clear line and exit status 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from recbench.cli.words import asked_studies
from recbench.config.compose import launcher_words, opened, plain_mistakes
from recbench.core.errors import UserError
from recbench.core.stops import exit_status_of, folder_of, reason_of, stopped_by_signals
from recbench.core.terminal import complain, speak
from recbench.training.processes.ranks import launched


def run_words(words: list[str]) -> int:
    """Run what the words ask for: one run, a sweep, or studies by name; returns the exit status."""
    # Hydra would print its own text for an error and exit with 1; with this it raises, and we speak.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else DDP warns of a flag that we set on purpose
    from recbench.experiment import sweep

    speak()
    with stopped_by_signals():
        try:
            return _run_words(words)
        except UserError as error:
            return _complain(str(error))
        except KeyboardInterrupt as stopped:
            print(stop_line(stopped), file=sys.stderr)
            return exit_status_of(stopped)
        finally:
            sweep.end_early()


def _run_words(words: list[str]) -> int:
    """Raises UserError, and KeyboardInterrupt where it is stopped."""
    from recbench.config.hydra_source import register_sources
    from recbench.experiment import sweep

    studies = asked_studies(words)
    if launched().world > 1 and (studies is not None or {"-m", "--multirun"} & set(words)):
        raise UserError(
            "torchrun and srun start the processes of one run; leave out -m and +experiment, or start those without them"
        )
    if studies is not None:
        from recbench.cli.study import main as run_studies

        return max(run_studies(words) for words in studies)
    register_sources()
    outcome = sweep.Outcome()
    with plain_mistakes(), sweep.plain_folder_errors():
        _with_hydra([*map(opened, words), *launcher_words(words)], outcome.job)
    return outcome.exit_status()


def stop_line(stopped: KeyboardInterrupt) -> str:
    """What is said of Ctrl+C, or of a signal: whether there is a checkpoint, and how to go on."""
    folder = folder_of(stopped)
    by = "" if type(stopped) is KeyboardInterrupt else reason_of(stopped).removeprefix("stopped")
    if folder is None:
        return f"stopped{by}; no run was cut short: the same command finds what is finished, and goes on with the rest"
    n = len(folder.history())
    if folder.resume_checkpoint.is_file():
        epochs = f"{n} epoch" + ("s" if n != 1 else "")
        return f"stopped{by}; {folder.key} has a checkpoint after {epochs}: the same command goes on from there"
    return f"stopped{by}; {folder.key} has no checkpoint yet: the same command begins it anew, and finds what was finished before"


def _complain(message: str) -> int:
    # torchrun and srun start this several times.
    return complain(message) if launched().leads else 2


def _with_hydra(words: list[str], task: Callable[[Any], Any]) -> None:
    """As ``hydra.main`` runs a task, for the words that are given rather than for those of the process."""
    from hydra import version
    from hydra._internal.utils import _run_hydra, get_args_parser

    from recbench.config.hydra_source import TOP

    version.setbase("1.3")
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    # Flags may stand anywhere among the words.
    args = parser.parse_intermixed_args(words)
    _run_hydra(args=args, args_parser=parser, task_function=task, config_path=None, config_name=TOP)


def _refuse(message: str) -> NoReturn:
    """What argparse says of the flags, in one line."""
    unknown = message.removeprefix("unrecognized arguments: ").split()
    if len(unknown) < len(message.split()) and unknown:
        word, _, value = unknown[0].lstrip("-").partition("=")
        known = f"write key=value, as in {word}={value or (unknown[1] if len(unknown) > 1 else 'VALUE')}"
        raise UserError(f"unknown option {unknown[0].partition('=')[0]}; {known}; recbench --help lists the keys")
    raise UserError(f"{message}; see recbench --help and recbench --hydra-help")
