"""What jobs of a sweep that run side by side on one machine may take of it: CPU threads by their number, GPUs by turns.

A scheduler such as Slurm gives each job its own; then nothing here applies.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

#: How many jobs of the sweep run at a time on this machine; set for the processes that run them.
PARALLEL_VARIABLE = "RECBENCH_PARALLEL_JOBS"

#: Read by libraries when they are first imported, so they must stand in the environment of a process that is about to start.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)

#: Which GPUs this process was given; of its CUDA context, which is made once, the first job of a process decides.
_given: list[str] = []


def n_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(n_workers: int, n_jobs: int) -> int:
    """Jobs at a time: joblib's count of workers, where -1 stands for all cores and -2 for all but one, but never more than jobs."""
    workers = n_workers if n_workers > 0 else n_cores() + 1 + n_workers
    return max(1, min(workers, n_jobs))


def threads_of_each(parallel: int, wanted: int = 0, cores: int | None = None) -> int:
    """CPU threads of one of ``parallel`` jobs: an equal share of the cores, or what the user wants.

    >>> threads_of_each(3, cores=8), threads_of_each(16, cores=8), threads_of_each(3, wanted=4, cores=8)
    (2, 1, 4)
    """
    return wanted or max(1, (cores or n_cores()) // parallel)


def announce(parallel: int, wanted: int = 0) -> None:
    """Tell the processes that this one will start how many they are, and how many threads each may use."""
    os.environ[PARALLEL_VARIABLE] = str(parallel)
    for name in THREAD_VARIABLES:
        # A smaller number that the user set stays.
        share = threads_of_each(parallel, wanted)
        os.environ[name] = str(min(share, _number(os.environ.get(name), share)) if not wanted else share)


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() and int(text) > 0 else default


def take_share(job: int, hardware: Any) -> None:
    """Within a process of a sweep, before its job: limit torch's threads, and show it one GPU of several. Else nothing.

    hardware: the composed ``hardware`` node; ``hardware.threads`` wins over the share.
    """
    if PARALLEL_VARIABLE not in os.environ:
        return
    import torch

    parallel = int(os.environ[PARALLEL_VARIABLE])
    torch.set_num_threads(
        min(threads_of_each(parallel, hardware.threads), _number(os.environ.get("OMP_NUM_THREADS"), 2**16))
    )
    global _given
    if not _given and hardware.accelerator != "cpu":
        _given = gpus_of(job, visible_gpus(), hardware.devices)
        if _given:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(_given)


def visible_gpus() -> list[str]:
    """The GPUs of this machine as CUDA_VISIBLE_DEVICES names them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def gpus_of(job: int, gpus: Sequence[str], wanted: int = 1) -> list[str]:
    """The GPUs of a job by its number: the next ``wanted`` ones, in turns; all of them where there are no more than that.

    >>> [gpus_of(job, ["0", "1", "2", "3"], 2) for job in range(3)]
    [['0', '1'], ['2', '3'], ['0', '1']]
    """
    if wanted >= len(gpus):
        return list(gpus)
    turns = len(gpus) // wanted
    first = (job % turns) * wanted
    return list(gpus[first : first + wanted])
