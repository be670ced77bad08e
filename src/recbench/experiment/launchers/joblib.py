"""Jobs side by side in processes of this machine, through Hydra's joblib launcher.

joblib gives up all its processes when one is killed, as the kernel does where memory is short. Here the others go on: what was finished is
found by its key, what was cut short resumes from its checkpoint, and a job that gets its process killed again and again is named.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn

from recbench.experiment.launchers.records import needs_extra, record_path, write_lost

logger = logging.getLogger(__name__)

KILLED = "its process was killed, perhaps for want of memory; run fewer jobs at a time with hydra.launcher.n_jobs=N"


def launch(plugin: Any, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
    """Run all jobs; where a process was killed, once more, and then one by one to know which one it is. plugin: has settings, config, ..."""
    try:
        from joblib.externals.loky.process_executor import BrokenProcessPool
    except ImportError as error:
        raise needs_extra("joblib") from error
    for _ in range(2):
        try:
            return list(_launch(plugin, job_overrides, first))
        except BrokenProcessPool:
            logger.warning("a process of the sweep was killed; going on with what it left unfinished")
    sweep_dir = Path(str(plugin.config.hydra.sweep.dir))
    found: list[JobReturn] = []
    for job, overrides in enumerate(job_overrides, first):
        try:
            found += _launch(plugin, [overrides], job)
        except BrokenProcessPool:
            record_path(sweep_dir, job).unlink(missing_ok=True)
            found.append(write_lost(sweep_dir, job, overrides, KILLED))
    return found


def _launch(plugin: Any, job_overrides: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
    try:
        from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher
    except ImportError as error:
        raise needs_extra("joblib") from error
    inner = JoblibLauncher(**plugin.settings)
    inner.setup(hydra_context=plugin.hydra_context, task_function=plugin.task_function, config=plugin.config)
    return inner.launch(job_overrides, initial_job_idx=first)


def dismiss_workers() -> None:
    """End joblib's processes, which outlive their sweep to serve the next: they know the folder, the threads and the MLflow parent of theirs."""
    try:
        from joblib.externals.loky import get_reusable_executor
    except ImportError:
        return
    get_reusable_executor().shutdown(wait=True)
