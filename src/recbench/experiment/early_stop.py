"""Trials of a search that are given up early, because at the same epoch half of the finished trials before them had done better.

Hydra's sweeper knows no pruning: it asks for values, runs them, and is told a figure. So the rule (Optuna's median rule) is applied inside the
job, after an epoch was stored. The trial's best figure so far is what the sweeper is told, and its run stays unfinished, with its checkpoint.

A judge looks only at trials that were over before its own was started, so the same search makes the same choices however fast its jobs are.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.core.errors import StoppedEarly
from recbench.core.run_folder import RunFolder
from recbench.experiment.launchers.records import record_path
from recbench.training.processes.ranks import here

if TYPE_CHECKING:
    from recbench.config.run import RunConfig


@dataclass(frozen=True)
class Judge:
    """What decides on one trial. after: epochs that it has in any case; startup: finished trials that it takes to compare with."""

    sweep_dir: Path
    job: int
    batch: int
    after: int
    startup: int

    @classmethod
    def of(cls, hydra: Any) -> Judge | None:
        """From Hydra's config of a job; None where trials are never given up."""
        sweeper = hydra.sweeper
        if not sweeper.prune:
            return None
        return cls(
            Path(hydra.sweep.dir), int(hydra.job.num), int(sweeper.n_jobs), sweeper.prune_after, sweeper.prune_startup
        )

    @property
    def search(self) -> str:
        return self.sweep_dir.name

    def refuse_stopped(self, folder: RunFolder) -> None:
        """Raises StoppedEarly if this search gave the run up before."""
        status = folder.read("status.json")
        if status.get("state") == "stopped" and status.get("search") == self.search:
            raise StoppedEarly(status["reason"], float(status["value"]), self.search, folder.path)

    def rivals(self, metric: str) -> list[list[float]]:
        """Best figure up to each epoch, of every finished trial that was over before the batch of this one began."""
        found = []
        for number in range(self.job // self.batch * self.batch):
            path = record_path(self.sweep_dir, number)
            record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            if record.get("folders"):
                found.append(curve_of(RunFolder(Path(record["folders"][-1])).history(), metric))
        return [curve for curve in found if curve]

    def verdict(self, curve: list[float], metric: str) -> str | None:
        """Why a trial with this curve of best figures is given up now; None if it goes on."""
        epoch = len(curve)
        if epoch < self.after:
            return None
        others = [rival[min(epoch, len(rival)) - 1] for rival in self.rivals(metric)]
        if len(others) < self.startup or curve[-1] >= (median := statistics.median(others)):
            return None
        return f"given up after epoch {epoch}: {metric} {curve[-1]:.4f}, the median of {len(others)} finished trials is {median:.4f}"


def best_so_far(values: list[float]) -> list[float]:
    """
    >>> best_so_far([1.0, 3.0, 2.0])
    [1.0, 3.0, 3.0]
    """
    return [max(values[: i + 1]) for i in range(len(values))]


def curve_of(history: Sequence[Mapping[str, Any]], metric: str) -> list[float]:
    """The best figure up to each epoch of a training; below every figure before its first validation."""
    return best_so_far([epoch.get(metric, -math.inf) for epoch in history])


def watchers(judge: Judge | None, config: RunConfig, folder: RunFolder) -> list[Any]:
    """Lightning callbacks of the judge of a run; none without one, and none for a run of several processes."""
    return [] if judge is None or here().world > 1 else [_watch(judge, config, folder)]


def _watch(judge: Judge, config: RunConfig, folder: RunFolder) -> Any:
    from pytorch_lightning.callbacks import Callback

    metric = f"validation/{config.protocol.metric_prefix}{config.evaluation.monitor}"

    class Watch(Callback):
        """Gives the training up when the judge says so."""

        def on_train_epoch_end(self, trainer: Any, learner: Any) -> None:
            history = folder.history()
            if metric not in history[-1]:
                return  # an epoch without validation
            curve = curve_of(history, metric)
            reason = judge.verdict(curve, metric)
            if reason is not None:
                raise StoppedEarly(reason, curve[-1], judge.search, folder.path)

    return Watch()
