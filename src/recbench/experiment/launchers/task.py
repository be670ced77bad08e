"""One job of a sweep, as it is sent to another machine."""

from __future__ import annotations

import os
from typing import Any

from hydra.core.utils import JobReturn


class Task:
    """A sweep's task function with its config: called with the words of a job, in whatever process that is."""

    def __init__(self, plugin: Any) -> None:
        self.hydra_context, self.task_function, self.config = plugin.hydra_context, plugin.task_function, plugin.config

    def __call__(self, overrides: list[str], number: int, state: dict[Any, Any]) -> JobReturn:
        from hydra.core.singleton import Singleton
        from hydra.core.utils import run_job, setup_globals
        from omegaconf import open_dict

        Singleton.set_state(state)
        setup_globals()
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        job = composed.hydra.job
        with open_dict(job):
            job.id, job.num = os.environ.get("SLURM_JOB_ID", str(number)), number
        return run_job(self.task_function, composed, "hydra.sweep.dir", "hydra.sweep.subdir", self.hydra_context)
