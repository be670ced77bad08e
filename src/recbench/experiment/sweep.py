"""Jobs of one command: a single one, or the many of a sweep, which may run in other processes.

Each job of a sweep leaves a small file in the sweep's folder; the process that started the sweep reads them all at the end, so it
makes no difference where the jobs ran. A job that fails does not end the sweep.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
import traceback
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode

from recbench.core.errors import StoppedEarly, UserError
from recbench.experiment import machine_share
from recbench.experiment.launchers.joblib import dismiss_workers
from recbench.training.processes.ranks import launched

if TYPE_CHECKING:
    from omegaconf import DictConfig

logger = logging.getLogger(__name__)

#: How jobs in other processes learn of their sweep's run in MLflow.
PARENT_VARIABLE = "RECBENCH_SWEEP_PARENT"

#: Whoever starts a single run as a process may name a file here, which tells what became of it as the files of a sweep do.
RECORD_VARIABLE = "RECBENCH_JOB_RECORD"


class Outcome:
    """What became of the jobs that this process started."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

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
        record: dict[str, Any] = {"overrides": list(hydra.overrides.task)}
        value = None
        try:
            value, told = _work(composed, hydra if in_sweep else None)
            record |= {"status": 0, **told}
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            record |= {"status": 2, "reason": str(error)}
        except Exception as error:
            traceback.print_exc()
            record |= {"status": 1, "reason": f"{type(error).__name__}: {error}"}
        self.statuses.append(record["status"])
        if in_sweep:
            number = int(hydra.job.num)
            write_json(Path(hydra.sweep.dir) / f"job-{number:05d}.json", {"job": number, **record})
        elif RECORD_VARIABLE in os.environ:
            write_json(Path(os.environ[RECORD_VARIABLE]), record)
        return value

    def exit_status(self) -> int:
        """0 if every job went well, else the status of the worst one; a sweep in other processes is judged by its files."""
        return min((s for s in [*self.statuses, *SweepCallback.statuses] if s), default=0)


def _work(composed: DictConfig, sweep: Any) -> tuple[float | None, dict[str, Any]]:
    """Run a job; sweep: Hydra's config if it is one of many. Returns (its validation figure, what to record of it)."""
    from recbench.experiment.job import run_job

    if sweep is None:
        runs = run_job(composed)
    else:
        machine_share.take_share(int(sweep.job.num), composed.hardware)
        judge = None
        if sweep.runtime.choices.get("hydra/sweeper") == "tune":
            from recbench.experiment.early_stop import Judge

            judge = Judge.of(sweep)
        try:
            runs = run_job(composed, os.environ.get(PARENT_VARIABLE, ""), judge)
        except StoppedEarly as stop:
            folder = str(stop.folder)
            return stop.value, {"value": stop.value, "stopped": str(stop), "stopped_folder": folder}
    asked = runs[-1]
    return asked.validation, {
        "folders": [str(run.folder.path) for run in runs],
        "reused": asked.reused,
        "value": asked.validation,
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all, for readers in other processes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)


def read_records(folder: Path) -> list[dict[str, Any]]:
    """What the jobs of a sweep said, by their numbers."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("job-*.json"))]


class SweepCallback(Callback):
    """Hydra calls this around a sweep, in the process that started it: a parent run before, one table after."""

    statuses: list[int] = []
    #: The parent run in MLflow that nobody has closed yet, with its place.
    unclosed: ClassVar[tuple[Any, str] | None] = None

    def __init__(self) -> None:
        self.parent: str | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return  # Hydra only warns of what a callback raises; it fails on the same folder next, and cli.main says so
        for old in folder.glob("job-*.json"):
            old.unlink()  # of an earlier sweep into the same folder; its runs are found by their keys
        os.environ.pop(PARENT_VARIABLE, None)
        os.environ.pop(machine_share.PARALLEL_VARIABLE, None)
        if _is_side_by_side(config):
            wanted = int(config.hardware.threads) if config.get("hardware") else 0
            machine_share.announce(
                machine_share.side_by_side(int(config.hydra.launcher.n_jobs), _n_jobs(config)), wanted
            )
        tracking = _tracking(config)
        if tracking is not None and tracking.enabled:
            self._open_parent(folder, tracking)

    def _open_parent(self, folder: Path, tracking: Any) -> None:
        from recbench.experiment.provenance import code_state
        from recbench.tracking.mlflow_store import Store, Unreachable, place_of
        from recbench.tracking.sync import SweepFile

        told = SweepFile(folder)
        told.begin(sys.argv[1:], code_state()["commit"], place_of(tracking))
        try:
            self.parent = told.open_parent(Store(tracking))
        except Unreachable as error:
            logger.warning("MLflow is not reachable: %s; the sweep goes on without it", error)
            return
        SweepCallback.unclosed = (tracking, self.parent)
        os.environ[PARENT_VARIABLE] = self.parent

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from recbench.report.console import show_outcome, show_sweep

        if _is_side_by_side(config):
            dismiss_workers()
        records = read_records(Path(config.hydra.sweep.dir))
        SweepCallback.statuses, SweepCallback.unclosed = [record["status"] for record in records], None
        if config.hydra.runtime.choices.get("hydra/sweeper") == "tune":
            show_outcome(records)  # a search is decided on validation; nobody should see its trials' test figures
        else:
            show_sweep(records)
        tracking = _tracking(config)
        if tracking is not None and tracking.enabled:
            _close(Path(config.hydra.sweep.dir), tracking, any(SweepCallback.statuses))


def _close(folder: Path, tracking: Any, failed: bool) -> None:
    """Tell MLflow that a sweep is over, and of whatever it missed while it was away."""
    from recbench.tracking.mlflow_store import Store, Unreachable
    from recbench.tracking.sync import SweepFile

    told = SweepFile(folder)
    told.update(ended=time.time(), failed=failed)
    try:
        store = Store(tracking)
        for key in told.settle(store):
            logger.info("sent %s, which MLflow had missed", key)
        page = told.comparison(store)
        if page:
            logger.info("compare runs: %s", page)
    except Unreachable as error:
        logger.warning(
            "MLflow is not reachable: %s; the sweep is complete on disk, send it later with: recbench tracking sync",
            error,
        )


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
    """Close the MLflow run of a sweep that a mistake or Ctrl+C ended before its time; it would stand there as running for ever."""
    if SweepCallback.unclosed is None:
        return
    from recbench.tracking.mlflow_store import Store, Unreachable

    (tracking, parent), SweepCallback.unclosed = SweepCallback.unclosed, None
    with contextlib.suppress(Unreachable):
        Store(tracking).end_parent(parent, True, int(1000 * time.time()))


def _tracking(config: DictConfig) -> Any:
    """The tracking of the whole sweep; None where it is one of the things that the jobs do differently."""
    from omegaconf import OmegaConf

    return OmegaConf.to_object(config.tracking) if config.get("tracking") is not None else None
