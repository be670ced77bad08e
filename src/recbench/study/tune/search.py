"""Hydra's Optuna sweeper within a budget.

Its storage is the runs themselves. Optuna's sampler is seeded and asked in a fixed order, so the same search asks for the same values again;
those that were tried are found by their keys within milliseconds, one that was cut short resumes, and the search goes on where it was.
(Optuna 2.10, which Hydra's sweeper needs, cannot open a database with the SQLAlchemy that MLflow brings.)
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn

from recbench.core.errors import UserError
from recbench.experiment.sweep import read_records
from recbench.study.tune.result import conclude, seconds_of

logger = logging.getLogger(__name__)


class BudgetSpent(Exception):
    """The trials so far took all the seconds there were."""


class Limited:
    """A launcher that starts no batch when the budget is spent."""

    def __init__(self, launcher: Any, sweep_dir: Path, seconds: float) -> None:
        self.launcher, self.sweep_dir, self.seconds = launcher, sweep_dir, seconds

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if self.seconds and sum(map(seconds_of, read_records(self.sweep_dir))) >= self.seconds:
            raise BudgetSpent
        return self.launcher.launch(job_overrides, initial_job_idx=initial_job_idx)


def sweep(plugin: Any, arguments: list[str]) -> None:
    """Search as the settings of ``conf/hydra/sweeper/tune.yaml`` say, then write what came of it."""
    try:
        import optuna
        from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl, create_params_from_overrides
    except ImportError as error:
        raise UserError("a search needs the extra 'tune'; install it with: pip install 'recbench[tune]'") from error
    settings = plugin.settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Optuna's own deprecations
        space, _ = create_params_from_overrides(arguments)
        if not space:
            raise UserError(
                "nothing to search; give a key some values, as in 'training.lr=tag(log, interval(1e-4, 1e-2))'"
            )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(
            seed=settings["seed"], n_startup_trials=settings["n_random"], multivariate=settings["n_random"] > 0
        )
        inner: Any = OptunaSweeperImpl(
            sampler, "maximize", None, None, settings["n_trials"], settings["n_jobs"], 1.0, None, None, None
        )
        inner.setup(hydra_context=plugin.hydra_context, task_function=plugin.task_function, config=plugin.config)
        sweep_dir = Path(str(plugin.config.hydra.sweep.dir))
        inner.launcher = Limited(inner.launcher, sweep_dir, float(settings["seconds"]))
        try:
            inner.sweep(arguments)
        except BudgetSpent:
            logger.info("the budget of %.0f s is spent", settings["seconds"])
        except ValueError as error:
            if "No trials are completed" not in str(error):
                raise
    conclude(sweep_dir, list(space), settings, plugin.config)
