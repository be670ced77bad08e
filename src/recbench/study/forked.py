"""Runs of a study that start without importing everything anew: each is a fork of one process that has imported what every run imports.

A fresh process spends about five processor seconds on imports, more than many a run on small data trains. Python's own ``multiprocessing`` keeps
the process that is forked (start method ``forkserver``) and ends it with the study. It imports and computes nothing, so no library has threads
that a fork would lose, and a run draws what it draws in a fresh process.

For runs on this machine's CPU under Linux: a GPU's driver does not survive a fork, nor do some system libraries of macOS.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, reduction
from pathlib import Path
from typing import IO, Any

from recbench.config.settings import HardwareConfig

IMPORTED = ["recbench.study.run_imports"]
#: And where runs are sent to MLflow.
IMPORTED_TO_TRACK = ["recbench.study.tracking_imports"]
#: Where a driver of a GPU answers: NVIDIA's, AMD's.
DRIVERS = ("/dev/nvidiactl", "/dev/kfd")


def can_be_forked(hardware: HardwareConfig) -> bool:
    """Whether a run with this hardware computes in one process, and on the CPU of this machine."""
    on_cpu = hardware.accelerator == "cpu" or not any(Path(driver).exists() for driver in DRIVERS)
    alone = type(hardware) is HardwareConfig and hardware.devices == hardware.nodes == 1
    return sys.platform == "linux" and on_cpu and alone


class Forked:
    """What of ``subprocess.Popen`` the pool uses, for ``python -m recbench`` with these words.

    In a session of its own, with nothing to read, and with ``log`` in place of its output and its messages. The first run of a process decides
    what is imported for all: with ``tracked`` also what sends runs to MLflow.
    """

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], log: IO[bytes], tracked: bool = False
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED + IMPORTED_TO_TRACK * tracked)
        before = dict(os.environ)
        os.environ.update(environment)  # libraries read theirs when they are imported
        try:
            forkserver.ensure_running()
        finally:
            os.environ.clear()
            os.environ.update(before)
        self._process = context.Process(
            target=_run, args=(list(words), dict(environment), os.getcwd(), Inherited(log.fileno()))
        )
        self._process.start()

    def poll(self) -> int | None:
        """The exit status, minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        pid = self._process.pid
        if self.poll() is None and pid is not None:
            os.kill(pid, number)

    def wait(self, timeout: float | None = None) -> None:
        """Return when it has ended. Raises TimeoutExpired."""
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired("recbench", timeout or 0.0)

    def kill(self) -> None:
        self._process.kill()


class Inherited:
    """The number of a file that the fork shall have too, with this process's lock on it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self.number),)


def _received(sent: Any) -> Inherited:
    return Inherited(sent.detach())


def _run(words: list[str], environment: dict[str, str], folder: str, log: Inherited) -> None:
    """Be what a fresh interpreter would be with these words."""
    os.setsid()
    # Ignored where a script runs the study in its background; what is in a session of its own gets it from the study alone.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for given, number in ((nothing, 0), (log.number, 1), (log.number, 2)):
        os.dup2(given, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["recbench", *words]
    runpy.run_module("recbench", run_name="__main__", alter_sys=True)  # its status leaves as SystemExit
