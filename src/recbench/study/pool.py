"""Runs jobs as processes, some at a time, and starts no job that would only wait for another one.

Two jobs that stand on the same unfinished run (an item table, a teacher) would both wait at its lock, or one would. So a job *claims*
what it stands on: others that need it stay back until it is finished, and workers take jobs that stand on something else.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from recbench.config.settings import SlurmConfig
from recbench.core.run_files import read_mapping
from recbench.core.run_folder import RunFolder
from recbench.core.stops import Stopped
from recbench.experiment.sweep import RECORD_VARIABLE
from recbench.study.forked import Forked, can_be_forked
from recbench.study.jobs import Job
from recbench.tracking.loggers import is_logger

logger = logging.getLogger(__name__)

#: Seconds between two looks at the processes, and those that they get to end after Ctrl+C.
PERIOD, GRACE = 0.1, 20.0


class Plan(Protocol):
    """Where jobs come from: more may appear when others are done."""

    def available(self) -> list[Job]:
        """Jobs that can be started now and were not given out before."""

    def settle(self, job: Job, reason: str | None) -> None:
        """A job has ended; reason says why it failed."""


@dataclass
class Worker:
    """A job on its way. claims: unfinished runs that only this one may work on."""

    job: Job
    process: subprocess.Popen[bytes] | Forked
    record: Path
    log: IO[bytes]
    claims: set[str]
    started: float = field(default_factory=time.perf_counter)


def start_process(command: list[str], environment: Mapping[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """In a session of its own: Ctrl+C reaches the children through us, once, and not from the terminal as well."""
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )


def own_log(path: Path) -> IO[bytes]:
    """A log that is empty and that no other process writes: where one does, a file with the number of this process in its name."""
    log = path.open("ab")
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        log.close()
        return path.with_suffix(f".{os.getpid()}.log").open("wb")
    log.truncate(0)
    return log


def command_of(job: Job, log: Path) -> list[str]:
    """One run as a process of this machine, or as a job of the cluster that ``hardware=slurm`` stands for."""
    if isinstance(job.config.hardware, SlurmConfig):
        from recbench.experiment.launchers.slurm import batch_command, need_slurm

        need_slurm()
        return batch_command(job.config.hardware, f"recbench-{job.key}", job.words, log)
    return [sys.executable, "-m", "recbench", *job.words]


class Pool:
    """At most ``size`` jobs at a time, one thread each; their words go to ``log_dir/<key>.log``."""

    def __init__(self, size: int, log_dir: Path) -> None:
        self.size, self.log_dir = size, log_dir
        self.waiting: list[Job] = []
        self.running: list[Worker] = []
        self.failed: dict[str, str] = {}
        #: Of runs that are finished, what went wrong afterwards: a tracking database whose disk is full.
        self.afterwards: dict[str, str] = {}
        #: What the children are sent when we are stopped: what we were sent, so that they record it.
        self.ending: int = signal.SIGINT

    def run(self, plan: Plan) -> None:
        """Work until the plan has nothing more. KeyboardInterrupt ends the children cleanly and is raised again."""
        try:
            while True:
                self._collect(plan)
                self.waiting += plan.available()
                self._start(plan)
                if not self.running and not self.waiting:
                    return
                time.sleep(PERIOD if self.running else 0)
        except KeyboardInterrupt as stopped:
            self.ending = stopped.number if isinstance(stopped, Stopped) else signal.SIGINT
            raise
        finally:
            self._end_all()

    def _start(self, plan: Plan) -> None:
        """With a place free, settle jobs whose run is known by now, and start those that stand in nobody's way."""
        if len(self.running) >= self.size:
            return  # looking at all that wait, ten times a second, took 7 % of a core with 126 runs
        claimed = {key for worker in self.running for key in worker.claims if not self._finished(worker.job, key)}
        for job in list(self.waiting):
            if job.complete or job.key in self.failed:
                self.waiting.remove(job)
                plan.settle(job, None if job.finished else self.failed[job.key])
                continue
            wanted = {key for key in {job.key, *job.needs} if not self._finished(job, key)}
            if len(self.running) < self.size and not wanted & claimed:
                self.waiting.remove(job)
                self.running.append(self._launch(job, wanted))
                claimed |= wanted

    @staticmethod
    def _finished(job: Job, key: str) -> bool:
        return RunFolder(job.config.runs_dir / key).finished

    def _launch(self, job: Job, claims: set[str]) -> Worker:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        # Of two studies that run at once each reads what its own job said.
        record = self.log_dir / f"{job.key}.{os.getpid()}.json"
        record.unlink(missing_ok=True)
        log = own_log(self.log_dir / f"{job.key}.log")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", RECORD_VARIABLE: str(record)}
        logger.info("start   %s (%s)", job, job.key)
        if can_be_forked(job.config.hardware):
            tracked = job.config.tracking.enabled and not is_logger(job.config.tracking)
            process: subprocess.Popen[bytes] | Forked = Forked(job.words, environment, log, tracked)
        else:
            process = start_process(command_of(job, Path(log.name)), environment, log)
        return Worker(job, process, record, log, claims)

    def _collect(self, plan: Plan) -> None:
        for worker in list(self.running):
            status = worker.process.poll()
            if status is None:
                continue
            self.running.remove(worker)
            worker.log.close()
            reason = None if status == 0 and worker.job.finished else self._reason(worker, status)
            if reason is not None and worker.job.finished:
                self.afterwards[worker.job.key], reason = reason, None
            worker.record.unlink(missing_ok=True)
            seconds = time.perf_counter() - worker.started
            if reason is not None:
                self.failed[worker.job.key] = reason
                logger.info("FAILED  %s after %.0f s: %s", worker.job, seconds, reason)
            else:
                logger.info("done    %s in %.0f s", worker.job, seconds)
            plan.settle(worker.job, reason)

    @staticmethod
    def _reason(worker: Worker, status: int) -> str:
        """Why a job failed: what it recorded, or how its process ended."""
        if worker.record.is_file():
            told = read_mapping(worker.record).get("reason")
            if told:
                return str(told)
        if status < 0:
            why = ", perhaps for want of memory: run fewer at a time with --jobs" if -status == signal.SIGKILL else ""
            return f"its process was ended by {signal.Signals(-status).name}{why}; see {worker.log.name}"
        return f"its process ended with status {status}; see {worker.log.name}"

    def _end_all(self) -> None:
        """Ask every child to stop as Ctrl+C would; end those that do not within the time of grace."""
        for worker in self.running:
            worker.process.send_signal(self.ending)
            if worker.job.config.hardware.name == "slurm":  # ours has only waited for it
                subprocess.run(["scancel", f"--name=recbench-{worker.job.key}"], check=False)
        deadline = time.perf_counter() + GRACE
        try:
            for worker in self.running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.process.wait(max(0.0, deadline - time.perf_counter()))
        finally:  # also where a second Ctrl+C cuts the waiting short
            for worker in self.running:
                if worker.process.poll() is None:
                    worker.process.kill()
                    worker.process.wait()
                worker.log.close()
            self.running.clear()
