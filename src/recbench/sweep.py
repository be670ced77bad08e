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
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode

from recbench.errors import UserError

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

    def job(self, composed: DictConfig) -> None:
        """Hydra's task function. Never raises for a failed run: it says what is wrong and notes the exit status."""
        from recbench.cli import run_job

        in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        record: dict[str, Any] = {"overrides": list(HydraConfig.get().overrides.task)}
        try:
            runs = run_job(composed, os.environ.get(PARENT_VARIABLE, "") if in_sweep else None)
            record |= {"status": 0, "folders": [str(run.folder.path) for run in runs]}
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            record |= {"status": 2, "reason": str(error)}
        except Exception as error:
            traceback.print_exc()
            record |= {"status": 1, "reason": f"{type(error).__name__}: {error}"}
        self.statuses.append(record["status"])
        if in_sweep:
            folder = Path(HydraConfig.get().sweep.dir)
            (folder / f"job-{int(HydraConfig.get().job.num):05d}.json").write_text(json.dumps(record))
        elif RECORD_VARIABLE in os.environ:
            Path(os.environ[RECORD_VARIABLE]).write_text(json.dumps(record))

    def exit_status(self) -> int:
        """0 if every job went well, else the status of the worst one; a sweep in other processes is judged by its files."""
        return min((s for s in [*self.statuses, *SweepCallback.statuses] if s), default=0)


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
        os.environ.pop(PARENT_VARIABLE, None)
        tracking = _tracking(config)
        if tracking.enabled:
            from recbench.tracking.mlflow_store import Store, Unreachable

            try:
                self.parent = Store(tracking).start_parent(
                    f"sweep {folder.name}", {"recbench.sweep": " ".join(sys.argv[1:])}
                )
                SweepCallback.unclosed = (tracking, self.parent)
                os.environ[PARENT_VARIABLE] = self.parent
            except Unreachable as error:
                logger.warning("MLflow is not reachable: %s; the sweep goes on without it", error)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from recbench.report.console import show_sweep

        folder = Path(config.hydra.sweep.dir)
        records = [json.loads(path.read_text()) for path in sorted(folder.glob("job-*.json"))]
        SweepCallback.statuses, SweepCallback.unclosed = [record["status"] for record in records], None
        show_sweep(records)
        tracking = _tracking(config)
        if self.parent:
            from recbench.tracking.mlflow_store import Store, Unreachable

            try:
                Store(tracking).end_parent(self.parent, failed=any(SweepCallback.statuses))
                logger.info("compare runs: mlflow ui --backend-store-uri %s", tracking.uri)
            except Unreachable as error:
                logger.warning("MLflow is not reachable: %s", error)


def end_early() -> None:
    """Close the MLflow run of a sweep that a mistake or Ctrl+C ended before its time; it would stand there as running for ever."""
    if SweepCallback.unclosed is None:
        return
    from recbench.tracking.mlflow_store import Store, Unreachable

    (tracking, parent), SweepCallback.unclosed = SweepCallback.unclosed, None
    with contextlib.suppress(Unreachable):
        Store(tracking).end_parent(parent, failed=True)


def _tracking(config: DictConfig) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_object(config.tracking)
