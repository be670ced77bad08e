"""Jobs of one command: a single one, or the many of a sweep, which may run in other processes.

Each job of a sweep leaves a small file in the sweep's folder; the process that started the sweep reads them all at the end, so it
makes no difference where the jobs ran. A job that fails does not end the sweep.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict, read_write

from recbench.core import own_folder
from recbench.core.console import clean, clean_line
from recbench.core.disk import explained
from recbench.core.errors import StoppedEarly, UserError, memory_error
from recbench.core.run_files import read_mapping
from recbench.core.secrets import redact
from recbench.core.terminal import complain
from recbench.experiment import machine_share
from recbench.experiment.launchers.joblib import dismiss_workers
from recbench.experiment.launchers.records import record_path, write_record
from recbench.experiment.sweep_tuned import tuned_alike
from recbench.tracking.loggers import is_logger
from recbench.tracking.store import NotSent
from recbench.training.processes.ranks import launched

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from recbench.experiment.context import Run
    from recbench.tracking.sweep import SweepSender

logger = logging.getLogger(__name__)

#: Whoever starts a single run as a process may name a file here, which tells what became of it as the files of a sweep do.
RECORD_VARIABLE = "RECBENCH_JOB_RECORD"


class Outcome:
    """What became of the jobs that this process started."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        SweepCallback.statuses = []  # of an earlier sweep of this process

    def job(self, composed: DictConfig) -> float | None:
        """Hydra's task function; returns the validation figure that decides a search.

        Never raises for a failed run: it says what is wrong, notes the exit status, and returns None.
        """
        if not launched().leads:  # the first process of torchrun or srun says what became of the job
            from recbench.experiment.follower import follow

            self.statuses.append(follow(composed))
            return None
        hydra = HydraConfig.get()
        in_sweep = hydra.mode == RunMode.MULTIRUN
        record: dict[str, Any] = {"overrides": [redact(word) for word in hydra.overrides.task]}
        value = None
        try:
            value, found = _work(composed, hydra if in_sweep else None)
            record |= {"status": 0, **found}
        except Exception as error:
            record |= _failure(error)
            if isinstance(error, NotSent) and error.runs:  # finished all the same
                record |= _told(error.runs)
                value = error.runs[-1].validation
        self.statuses.append(record["status"])
        try:
            if in_sweep:
                number = int(hydra.job.num)
                write_record(record_path(Path(hydra.sweep.dir), number), {"job": number, **record})
            elif RECORD_VARIABLE in os.environ:
                write_record(Path(os.environ[RECORD_VARIABLE]), record)
        except OSError as error:
            self.statuses.append(_failure(error)["status"])
        return value

    def exit_status(self) -> int:
        """0 if every job went well, else the status of the worst one; a sweep in other processes is judged by its files."""
        return min((s for s in [*self.statuses, *SweepCallback.statuses] if s), default=0)


def _failure(error: Exception) -> dict[str, Any]:
    """Say why a job failed; returns what to record of it: one line and 2 for what the user can mend, 1 for a mistake of ours."""
    mended = error if isinstance(error, UserError) else explained(error) or memory_error(error)
    if mended is not None:
        return {"status": complain(mended), "reason": clean_line(mended)}
    print(clean(redact("".join(traceback.format_exception(error)))), file=sys.stderr)
    return {"status": 1, "reason": clean_line(f"{type(error).__name__}: {error}")}


def _work(composed: DictConfig, sweep: Any) -> tuple[float | None, dict[str, Any]]:
    """Run a job; sweep: Hydra's config if it is one of many. Returns (its validation figure, what to record of it)."""
    from recbench.experiment.job import run_job

    if sweep is None:
        runs = run_job(composed)
        return runs[-1].validation, _told(runs)
    from recbench.tracking.sweep_file import tracking_record

    machine_share.take_share(int(sweep.job.num), composed.hardware)
    judge = None
    if sweep.runtime.choices.get("hydra/sweeper") == "tune":
        from recbench.experiment.early_stop import Judge

        judge = Judge.of(sweep)
    try:
        runs = run_job(composed, in_sweep=True, judge=judge)
    except StoppedEarly as stop:
        return stop.value, {"value": stop.value, "stopped": str(stop), "stopped_folder": str(stop.folder)}
    return runs[-1].validation, {**_told(runs), "tracking": tracking_record(_tracking(composed))}


def _told(runs: Sequence[Run]) -> dict[str, Any]:
    """What a job's record says of its runs, the asked one last."""
    asked = runs[-1]
    folders = [str(run.folder.path) for run in runs]
    return {"folders": folders, "reused": asked.reused, "value": asked.validation}


@contextmanager
def plain_folder_errors() -> Iterator[None]:
    """Around all jobs of a command: a folder that Hydra cannot make for a sweep, as a UserError. Of a job no such error comes through."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise UserError(
            f"cannot write {error.filename}: {error.strerror}; choose another place with runs_dir=PATH"
        ) from error


def read_records(folder: Path) -> list[dict[str, Any]]:
    """What the jobs of a sweep said, by their numbers. Raises UserError for a record that is damaged."""
    return [read_mapping(path) for path in sorted(folder.glob("job-*.json"))]


class SweepCallback(Callback):
    """Hydra calls this around a sweep, in the process that started it: a run in MLflow before, one table after. It also calls it after each
    job, in the process of the job."""

    statuses: list[int] = []
    #: Of the sweep that this process started and that is not over yet.
    sender: ClassVar[SweepSender | None] = None
    #: Of its folder.
    lock: ClassVar[Any] = None

    def __init__(self, tables: bool = True) -> None:
        """tables: print what the jobs found; who asks from Python gets it as a frame."""
        self.tables = tables

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            folder = _own_folder(config)
        except OSError:
            return  # Hydra only warns of what a callback raises; it fails on the same folder next, and cli.main says so
        with suppress(OSError, NotImplementedError):  # a file system without locks
            SweepCallback.lock = own_folder.hold(folder)
        for old in folder.glob("job-*.json"):
            old.unlink()  # of an earlier sweep into the same folder; its runs are found by their keys
        os.environ.pop(machine_share.PARALLEL_VARIABLE, None)
        if _is_side_by_side(config):
            wanted = int(config.hardware.threads) if config.get("hardware") else 0
            machine_share.announce(
                machine_share.side_by_side(int(config.hydra.launcher.n_jobs), _n_jobs(config)), wanted
            )
        if config.hydra.runtime.choices.get("hydra/sweeper") != "tune":
            with suppress(UserError):  # a word that is no word: its job says so
                if line := tuned_alike(config):
                    logger.warning("%s", line)
        tracking = _tracking(config)
        if tracking is None or (tracking.enabled and not is_logger(tracking)):
            from recbench.experiment.provenance import code_state
            from recbench.tracking.sweep import SweepSender

            sender = SweepSender(folder, tracking)
            try:
                sender.start(sys.argv[1:], code_state()["commit"], watch=not _is_in_this_process(config))
            except UserError as error:  # its jobs meet the same disk
                logger.warning("the sweep is not sent to MLflow: %s", error)
                return
            SweepCallback.sender = sender

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if SweepCallback.sender is not None:
            SweepCallback.sender.send_ended()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if _is_side_by_side(config):
            dismiss_workers()
        try:
            self._end(config)
        except UserError as error:
            SweepCallback.statuses = [*SweepCallback.statuses, complain(error)]
        finally:
            _let_go()

    def _end(self, config: DictConfig) -> None:
        from recbench.report.console import show_outcome, show_sweep

        records = read_records(Path(config.hydra.sweep.dir))
        SweepCallback.statuses = [int(record["status"]) for record in records]
        if not self.tables:
            pass
        elif config.hydra.runtime.choices.get("hydra/sweeper") == "tune":
            show_outcome(records)  # a search is decided on validation; nobody should see its trials' test figures
        else:
            show_sweep(records)
        sender, SweepCallback.sender = SweepCallback.sender, None
        if sender is not None:
            sender.finish(failed=any(SweepCallback.statuses))


def _is_in_this_process(config: DictConfig) -> bool:
    """Whether Hydra runs the jobs one after the other in the process that started the sweep."""
    return bool(config.hydra.runtime.choices.get("hydra/launcher") == "basic")


def _is_side_by_side(config: DictConfig) -> bool:
    return config.hydra.runtime.choices.get("hydra/launcher") in ("joblib", "processes")


def _n_jobs(config: DictConfig) -> int:
    """Jobs of a sweep over every combination of its values; for a search, how many it runs at a time."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if config.hydra.runtime.choices.get("hydra/sweeper") == "tune":
        return int(config.hydra.sweeper.n_jobs)
    words = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    return prod(len(list(word.sweep_string_iterator())) for word in words if word.is_discrete_sweep())


def end_early() -> None:
    """Close the MLflow run of a sweep that a mistake or Ctrl+C ended before its time."""
    sender, SweepCallback.sender = SweepCallback.sender, None
    try:
        if sender is not None:
            sender.abandon()
    except UserError as error:
        logger.warning("not sent to MLflow: %s", error)
    finally:
        _let_go()


def _let_go() -> None:
    """The folder of the sweep is free again."""
    lock, SweepCallback.lock = SweepCallback.lock, None
    if lock is not None:
        lock.release()


def _own_folder(config: DictConfig) -> Path:
    """The folder of a sweep, which no other sweep has: of two that start in one second, the second one's ends with -2.

    A folder that the words name, as a search names that of its earlier self, is taken as it is. Raises OSError.
    """
    folder = Path(config.hydra.sweep.dir)
    if any(word.lstrip("+").startswith("hydra.sweep.dir=") for word in config.hydra.overrides.hydra):
        return folder
    own = own_folder.claim(folder)
    if own != folder:
        with read_write(config), open_dict(config):
            config.hydra.sweep.dir = str(own)
            config.hydra.overrides.hydra.append(folder_word(own))  # of which the configs of the jobs are composed
    return own


def folder_word(folder: Path) -> str:
    """The word of a command line that names the folder of a sweep."""
    return "hydra.sweep.dir='{}'".format(str(folder).replace("'", "\\'"))


def _tracking(config: DictConfig) -> Any:
    """The tracking of a job, or of the whole sweep; None where it is one of the things that the jobs do differently."""
    return OmegaConf.to_object(config.tracking) if config.get("tracking") is not None else None
