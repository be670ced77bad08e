"""The one door: a first word without ``=`` is a command, everything else is a run or a sweep."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable

from recbench.cli import commands
from recbench.config.runs_address import placed
from recbench.config.schemas import GROUPS, conf_dir, registered
from recbench.core import garbage, secrets
from recbench.core.console import filtered_output
from recbench.core.disk import explained
from recbench.core.errors import UserError
from recbench.core.terminal import complain
from recbench.experiment import busy_machine

HELP = """recbench: recommenders compared under one split, one ranking kernel, one budget

usage: recbench [key=value ...]          one run; without keys: model=slmrec data=synthetic
       recbench -m key=a,b,c ...         a sweep over every combination; -m may stand anywhere
       recbench --cfg job [key=value]    print exactly what would run
       recbench +experiment=NAME         what is missing of a study (-m: of several, as in +experiment=a,b)
       recbench COMMAND ...              one of the commands below; recbench COMMAND --help says more
       (python -m recbench does the same)

commands:
{commands}
groups (choose with group=option):
{groups}
keys (change with key=value):
  seed, runs_dir, cache_dir, tuned (a file of values: tuned=NAME, or tuned=off for none)
  training.{{max_epochs,batch_size,lr,weight_decay,patience,max_length,warmup_steps,schedule,step_epochs,l2,gradient_clip,validate_every,epoch_steps,init_from}}
  evaluation.{{cutoffs,metrics,monitor}}   monitor: the validation metric that stops training, as hr@7 (default: ndcg@10)
  tracking.{{enabled,uri,experiment}}   hardware.{{accelerator,devices,nodes,strategy,precision,compile,threads,logits,estimate_energy}}
  model.*  data.*  protocol.*  attack.*  distillation.*  compression.*   as `--cfg job` prints them for the chosen options

also:  hydra/launcher=joblib   jobs of a sweep side by side (extra 'sweep'); hardware=slurm: on a cluster
       mlflow ui               compare runs
       --hydra-help            Hydra's own flags
       --version               recbench's version
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command line, that of this process unless another is given; returns its exit status."""
    words = [secrets.hide(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    if arguments is None:  # this process is ours
        garbage.leave_the_old()
        sys.argv[1:] = words  # what provenance.json and MLflow are told
    with filtered_output():
        return _quietly(_run, words)


def _run(words: list[str]) -> int:
    busy_machine.begin()  # before torch is imported
    try:
        words = [placed(word) for word in words]
    except UserError as error:
        return complain(error)
    if words and commands.is_command(words[0]):
        try:
            command = commands.find(words[0])
        except UserError as error:
            return complain(error)
        return command(words[1:])
    if {"--help", "-h"} & set(words):
        commands.say_clashes()
        print(help_text())
        return 0
    if "--version" in words:
        from recbench import __version__

        print(f"recbench {__version__}")
        return 0
    from recbench.cli.run import run_words

    return run_words(words)


def _quietly(command: Callable[[list[str]], int], words: list[str]) -> int:
    """A reader that went away, as in ``recbench doctor | head``, ends a command without a word; a disk that takes no output, with one line."""
    try:
        status = command(words)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        _drop_output()
        return 128 + signal.SIGPIPE
    except Exception as error:
        full = explained(error)
        if full is None:
            raise
        _drop_output()
        return complain(full)


def _drop_output() -> None:
    """What is still buffered goes nowhere."""
    with contextlib.suppress(OSError, ValueError):  # without a file behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def help_text() -> str:
    """The help, from the file names of ``conf/`` and the registry; nothing heavy is imported for it."""
    said = [f"  {name:<10} {summary}" for name, summary in commands.summaries().items()]
    lines = []
    for group in GROUPS:
        options = {*(path.stem for path in (conf_dir() / group).glob("*.yaml")), *registered(group)}
        lines.append(f"  {group:<13} {', '.join(sorted(options))}")
    return HELP.format(commands="\n".join(said) + "\n", groups="\n".join(lines) + "\n")
