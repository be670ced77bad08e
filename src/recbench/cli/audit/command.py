"""``recbench audit data=... protocol=...``: what to know of a data set and a protocol before believing a number.

Writes audit.json, audit.md and audit.html into audit/<protocol id> under the prepared data, or into out=FOLDER. The floors (popularity
and its recent form) and the probe are runs like any other: found in runs_dir by their keys, or made.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.core.errors import UserError
from recbench.core.terminal import Parser, exit_status, open_out

if TYPE_CHECKING:
    from recbench.config.run import RunConfig


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Raises UserError for what is no option and no key=value, and for a model= that no audit has."""
    from recbench.study.values import WORD, key_of

    parser = Parser(prog="recbench audit", description=__doc__)
    parser.add_argument(
        "words", nargs="*", metavar="key=value", help="as for a run: data=, protocol=, their keys, out=FOLDER"
    )
    parser.add_argument(
        "--probe",
        action="append",
        metavar="MODEL",
        help="a model that reads order; its histories are shuffled (default: markov; may be given several times)",
    )
    chosen = parser.parse_intermixed_args(arguments)
    chosen.out = None
    words = []
    for word in chosen.words:
        if not WORD.fullmatch(word):
            raise UserError(f"cannot read '{word}'; write key=value, as in data=amazon")
        key = key_of(word)
        if key == "model":
            raise UserError("an audit has its own models; choose the probe with --probe NAME")
        if key == "out":
            chosen.out = Path(word.partition("=")[2]).expanduser().absolute()
        else:
            words.append(word)
    chosen.words, chosen.probe = tuple(words), list(dict.fromkeys(chosen.probe or ["markov"]))
    return chosen


def run_audit(chosen: argparse.Namespace) -> int:
    """Make the audit, write it, show what it found, send its runs; returns the exit status."""
    from recbench.cli.audit.make import default_folder, make_audit, write_audit
    from recbench.config.compose import compose
    from recbench.core.terminal import show
    from recbench.experiment.context import FOLLOWER
    from recbench.training.processes.leader import team

    def composed(model: str) -> RunConfig:
        own = [word for word in chosen.words if model in chosen.probe or not word.lstrip("+").startswith("model.")]
        return compose((f"model={model}", *own))

    config = composed(chosen.probe[0])
    out = open_out(chosen.out) if chosen.out else None  # before anything is trained
    with team(config.hardware, FOLLOWER):  # one for all the runs
        found, stage, made = make_audit(composed, chosen.probe)
    files = write_audit(found, out or open_out(default_folder(stage)))
    for finding in found["findings"]:
        show(("beware: " if finding["level"] == "beware" else "") + finding["text"])
    show(*(str(path) for path in files))
    if config.tracking.enabled:
        from recbench.tracking.deliver import deliver

        deliver(config.tracking, [part.folder for part in made])
    return 0


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, 2 for wrong use, 130 stopped from the keyboard."""
    from recbench.core.terminal import speak

    speak()
    return exit_status(lambda: run_audit(read_arguments(arguments)))
