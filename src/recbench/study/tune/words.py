"""The words of ``recbench tune``: what is searched, within which budget, and the command line of the sweep that does it."""

from __future__ import annotations

import argparse
from pathlib import Path

from recbench.core.errors import UserError
from recbench.core.terminal import Parser
from recbench.study.tune.space import chosen as option
from recbench.study.tune.space import search_name, space_words
from recbench.study.values import WORD


def read_arguments(arguments: list[str], description: str | None = None) -> argparse.Namespace:
    """The command line. Raises UserError for what is no option and no key=value."""
    parser = Parser(prog="recbench tune", description=description)
    parser.add_argument(
        "words", nargs="*", metavar="key=value", help="overrides of every trial; model=NAME is one of them"
    )
    parser.add_argument("--trials", type=int, help="most trials (default: 20, or as many as --hours allow)")
    parser.add_argument(
        "--hours", type=float, default=0.0, help="begin no trial when those before it trained for so long"
    )
    parser.add_argument("--jobs", type=int, default=1, help="trials side by side on this machine (default: 1)")
    parser.add_argument("--sampler-seed", type=int, default=1, help="of the search, not of the training (default: 1)")
    parser.add_argument("--space", type=Path, help="a file such as conf/tuning/sasrec.yaml to search instead")
    parser.add_argument("--no-prune", action="store_true", help="train every trial to its end")
    parser.add_argument("--no-file", action="store_true", help="do not write tuned/<model>-<data>.yaml")
    chosen = parser.parse_intermixed_args(arguments)
    for name in ("trials", "jobs"):
        if (value := getattr(chosen, name)) is not None and value < 1:
            raise UserError(f"--{name} must be at least 1, not {value}")
    if not chosen.hours >= 0:
        raise UserError(f"--hours must not be negative, not {chosen.hours}")
    for word in chosen.words:
        if not WORD.fullmatch(word):
            raise UserError(f"cannot read '{word}'; write key=value, as in model=sasrec")
    return chosen


#: Trials where only the hours count.
UNLIMITED = 100_000


def hydra_words(chosen: argparse.Namespace) -> tuple[str, list[str]]:
    """(name of the search's folder, the command line of its sweep). Raises UserError where nothing can be searched."""
    model, data = option(chosen.words, "model"), option(chosen.words, "data", "synthetic")
    words = [*chosen.words, *space_words(model, chosen.words, chosen.space)]
    name = search_name(f"{model}-{data}", words, chosen.sampler_seed, chosen.jobs)
    trials = chosen.trials or (UNLIMITED if chosen.hours else 20)
    settings = {
        "name": "null" if chosen.no_file else f"{model}-{data}",
        "n_trials": trials,
        "seconds": 3600 * chosen.hours,
        "n_jobs": chosen.jobs,
        "seed": chosen.sampler_seed,
        "prune": str(not chosen.no_prune).lower(),
    }
    sweeper = ["hydra/sweeper=tune", *(f"hydra.sweeper.{key}={value}" for key, value in settings.items())]
    launcher = ["hydra/launcher=processes", f"hydra.launcher.n_jobs={chosen.jobs}"] if chosen.jobs > 1 else []
    if any(word.startswith("hydra/launcher=") or word == "hardware=slurm" for word in words):
        launcher = []
    return name, ["-m", *sweeper, *launcher, f"hydra.sweep.dir=${{runs_dir}}/searches/{name}", *words]
