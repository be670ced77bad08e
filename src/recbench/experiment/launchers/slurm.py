"""Jobs of a sweep, or of a study, as jobs of a Slurm cluster; what they ask for is ``hardware=slurm``.

Jobs of a sweep go through submitit, which hears of a preemption or of the end of the time and queues the job again; by its key the run finds
its checkpoint and goes on. One job that dies leaves the others alone.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn

from recbench.config.settings import SlurmConfig
from recbench.core.errors import UserError
from recbench.experiment.launchers.records import needs_extra, write_lost
from recbench.experiment.launchers.task import Task

logger = logging.getLogger(__name__)

#: Seconds between two looks at the queue, and how long a job may be out of it before its result, on a shared file system, can be read.
LOOK_SECONDS, LATE_FILES_SECONDS = 3.0, 20.0
#: What squeue calls a job that will not run again, while it still remembers it.
ENDED = (
    "CANCELLED",
    "COMPLETED",
    "FAILED",
    "TIMEOUT",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "BOOT_FAIL",
    "DEADLINE",
    "REVOKED",
)


class QueuedAgain(Task):
    """A job that submitit stores, starts in every process of it, and can queue again."""

    def checkpoint(self, *arguments: Any) -> Any:
        """What submitit queues again: the same job, which finds its own checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


def launch(plugin: Any, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
    """Submit all jobs as one array and wait for every one. Raises UserError where there is no Slurm, or where it refuses them."""
    try:
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError
    except ImportError as error:
        raise needs_extra("submitit_slurm") from error
    from hydra.core.singleton import Singleton

    need_slurm()
    # Of every look at a cluster without an accounting database it warns; squeue tells it the same.
    logging.getLogger("submitit").setLevel(logging.ERROR)
    sweep_dir = Path(str(plugin.config.hydra.sweep.dir)).absolute()
    hardware = hardware_of(plugin.config)
    executor = submitit.AutoExecutor(
        folder=sweep_dir / ".submitit" / "%j", cluster="slurm", slurm_max_num_timeout=hardware.requeue
    )
    executor.update_parameters(**parameters(hardware, plugin.settings))
    numbers = range(first, first + len(job_overrides))
    state = Singleton.get_state()
    try:
        jobs = executor.map_array(
            QueuedAgain(plugin), [list(o) for o in job_overrides], numbers, [state] * len(numbers)
        )
    except FailedSubmissionError as error:
        raise UserError(
            f"Slurm refuses the jobs: {' '.join(str(error).split())[-300:]}; change hardware.* accordingly"
        ) from error
    logger.info("Slurm jobs %s; their words: %s", ", ".join(job.job_id for job in jobs), sweep_dir / ".submitit")
    found = []
    for number, overrides, job in zip(numbers, job_overrides, jobs, strict=True):
        try:
            wait_for(job)
            found.append(job.results()[0])
        except LeftQueue as left:
            found.append(write_lost(sweep_dir, number, overrides, f"{left}; see {job.paths.stderr}"))
        except (FailedJobError, UncompletedJobError) as error:
            logger.debug("%s", error)
            reason = f"Slurm job {job.job_id} ended as {job.state} without a result; see {job.paths.stderr}"
            found.append(write_lost(sweep_dir, number, overrides, reason))
    return found


class LeftQueue(Exception):
    """A job that was cancelled or killed, of which Slurm says no more."""


def wait_for(job: Any) -> None:
    """Return when a job of submitit has a result, or has ended as Slurm's accounting knows it. Raises LeftQueue for one that is gone.

    submitit asks the accounting alone; a cluster without one says nothing of a job that was cancelled, and submitit would wait for ever.
    """
    gone_since = None
    while not job.done():
        time.sleep(LOOK_SECONDS)
        if is_queued(job.job_id):
            gone_since = None
        elif gone_since is None:
            gone_since = time.monotonic()
        elif time.monotonic() - gone_since > LATE_FILES_SECONDS and not job.done():
            raise LeftQueue(f"Slurm job {job.job_id} left the queue without a result")


def is_queued(job_id: str) -> bool:
    """Whether a job waits or runs, as squeue knows it; taken to be so where squeue cannot say."""
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%T", f"--jobs={job_id}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        return "Invalid job id" not in answer.stderr
    return any(state not in ENDED for state in answer.stdout.split())


def need_slurm() -> None:
    if shutil.which("sbatch") is None:
        raise UserError(
            "there is no Slurm here (no command sbatch); submit from a login node, or leave hardware=slurm out"
        )


def hardware_of(config: Any) -> SlurmConfig:
    """What the jobs of a sweep ask for. Raises UserError unless it is ``hardware=slurm`` for all of them."""
    from omegaconf import OmegaConf

    found = OmegaConf.to_object(config.hardware) if config.get("hardware") is not None else None
    if not isinstance(found, SlurmConfig):
        raise UserError("jobs for Slurm need hardware=slurm, which says what they ask for")
    return found


def parameters(hardware: SlurmConfig, settings: Any) -> dict[str, Any]:
    """submitit's names for what a job asks for; what is not said is the cluster's own default."""
    further = {**dict(settings.get("parameters") or {}), **({"requeue": True} if hardware.requeue else {})}
    found = {
        "name": "recbench",
        "nodes": hardware.nodes,
        "tasks_per_node": hardware.devices,
        "timeout_min": hardware.minutes,
        "mem_gb": hardware.memory_gb,
        "cpus_per_task": hardware.cpus,
        "gpus_per_node": hardware.gpus,
        "slurm_partition": hardware.partition,
        "slurm_account": hardware.account,
        "slurm_array_parallelism": int(settings.get("array_parallelism", 256)),
        "slurm_setup": list(settings.get("setup") or []) or None,
        "slurm_additional_parameters": further,
    }
    return {name: value for name, value in found.items() if value is not None}


def batch_command(hardware: SlurmConfig, name: str, words: Sequence[str], log: Path) -> list[str]:
    """A command that submits one run as a Slurm job and ends, with its status, when the job does: how a study starts its runs."""
    asked = {
        "job-name": name,
        "output": log,
        "open-mode": "append",
        "time": hardware.minutes,
        "nodes": hardware.nodes,
        "ntasks-per-node": hardware.devices,
        "mem": f"{hardware.memory_gb}G" if hardware.memory_gb is not None else None,
        "cpus-per-task": hardware.cpus,
        "gpus-per-node": hardware.gpus,
        "partition": hardware.partition,
        "account": hardware.account,
    }
    flags = [f"--{flag}={value}" for flag, value in asked.items() if value is not None]
    line = shlex.join(["srun", sys.executable, "-m", "recbench", *words])
    return ["sbatch", "--wait", "--requeue" if hardware.requeue else "--no-requeue", *flags, f"--wrap={line}"]
