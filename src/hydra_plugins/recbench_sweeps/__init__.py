"""recbench's launchers and sweeper as Hydra finds them: it takes plugins from this namespace package only.

Every command imports this file, so whatever is heavy or optional is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class _Delegate:
    """Keeps the settings until Hydra says what is to be run."""

    hydra_context: HydraContext | None
    config: DictConfig | None

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config


class Side(_Delegate, Launcher):
    """``hydra/launcher=joblib``: several processes on this machine; one that is killed costs no other job."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from recbench.experiment.launchers.joblib import launch

        return launch(self, job_overrides, initial_job_idx)


class Slurm(_Delegate, Launcher):
    """``hydra/launcher=submitit_slurm``, which ``hardware=slurm`` chooses: jobs of a cluster."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from recbench.experiment.launchers.slurm import launch

        return launch(self, job_overrides, initial_job_idx)


class OnRay(_Delegate, Launcher):
    """``hydra/launcher=ray``, which ``hardware=ray`` chooses: jobs as tasks of a Ray cluster."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from recbench.experiment.launchers.on_ray import launch

        return launch(self, job_overrides, initial_job_idx)


class Search(_Delegate, Sweeper):
    """``hydra/sweeper=tune``: Optuna's sweeper with a budget."""

    def sweep(self, arguments: list[str]) -> Any:
        from recbench.study.tune.search import sweep

        return sweep(self, arguments)
