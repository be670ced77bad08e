"""The other processes of a run: each waits for a message of the first one, makes that run with it, and waits for the next.

They write nothing and say nothing, unless they fail.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.core.console import clean
from recbench.core.errors import UserError
from recbench.core.secrets import redact
from recbench.training.processes.leader import tell
from recbench.training.processes.ranks import Ranks, launched, working_as
from recbench.training.processes.rendezvous import FAILED, PATIENCE, join, meet, uses_gpu, was_left

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from recbench.experiment.context import Run, RunContext


def main() -> int:
    """A process that the first one started: ``python -m recbench.processes.follower``, with who it is as a line of JSON on its input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    from torch.distributed import TCPStore

    ranks = Ranks(told["rank"], told["world"], told["rank"])
    store = TCPStore("127.0.0.1", told["port"], ranks.world, is_master=False, timeout=PATIENCE)
    return serve(ranks, store, told["gpu"])


def _end_with_the_first() -> None:
    """The first process holds the other end of our input, and lets go of it by dying, however it dies."""
    sys.stdin.buffer.read()
    os._exit(1)


def follow(composed: DictConfig) -> int:
    """What a process of torchrun or srun does that is not the first one. Returns its exit status."""
    from recbench.config.run import RunConfig

    try:
        config = RunConfig.from_hydra(composed)
    except UserError:
        return 2  # the first process says it
    ranks = launched()
    return serve(ranks, meet(ranks), uses_gpu(config.hardware))


def serve(ranks: Ranks, store: Any, gpu: bool) -> int:
    """Make the runs that the first process asks for until it says stop. Returns the exit status."""
    logging.getLogger("recbench").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    import torch.distributed as dist

    stages: dict[str, RunContext] = {}
    try:
        join(ranks, store, gpu)
        while True:
            message = tell(None)
            if "stop" in message:
                dist.destroy_process_group()
                return int(message["stop"])
            with working_as(ranks):
                _make(message, stages)
    except BaseException as error:
        return _fail(ranks, store, error)


def _make(message: dict[str, Any], stages: dict[str, RunContext]) -> None:
    """One run, without what the first process does for it. stages: kept from run to run."""
    from recbench.config.run import RunConfig
    from recbench.core.run_folder import RunFolder
    from recbench.experiment.context import RunContext
    from recbench.experiment.key import run_key
    from recbench.experiment.produce import produce

    config = RunConfig.from_dict(message["config"])
    stage = RunContext.among(stages, config)
    if run_key(config, stage) != message["key"]:
        raise UserError(
            "the data are not those of the first process; let all machines see the same cache_dir and raw data"
        )
    needed = {name: _finished(config.runs_dir / key) for name, key in message["needed"].items()}
    produce(config, stage, needed, RunFolder(config.runs_dir / message["key"]))


def _finished(path: Path) -> Run:
    """A run that the first process found or made, as this one needs it."""
    from recbench.config.run import RunConfig
    from recbench.core.run_folder import RunFolder
    from recbench.experiment.context import Run

    folder = RunFolder(path)
    if not folder.finished:
        raise UserError(f"{path} is not to be seen here; let all machines see the same runs_dir")
    return Run(folder, RunConfig.from_dict(folder.config()), folder.read("metrics.json"), {}, reused=True)


def _fail(ranks: Ranks, store: Any, error: BaseException) -> int:
    """Leave the reason in the store, where the first process looks for it. Returns the exit status."""
    if was_left(error):
        return 1  # another one failed, and says why
    said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    with contextlib.suppress(RuntimeError):  # the process that kept the store is gone: so it failed first
        store.compare_set(FAILED, "", f"process {ranks.rank} of {ranks.world} failed: {said}")
    if isinstance(error, Exception) and not isinstance(error, UserError):
        print(clean(redact("".join(traceback.format_exception(error)))), file=sys.stderr)
    return 2 if isinstance(error, UserError) else 1


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # the thread that reads our input still waits
