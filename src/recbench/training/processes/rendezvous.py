"""How the processes of a run find each other and are connected: a store, in which a few words can be left, and a process group."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from recbench.config.settings import HardwareConfig
from recbench.core.errors import UserError
from recbench.training.processes.ranks import Ranks

#: How long a process waits for the others: a lock of the first one may be held by another job's training.
PATIENCE = timedelta(days=30)
#: Where in the store the first process to fail leaves its reason.
FAILED = "recbench/failed"


def was_left(error: BaseException) -> bool:
    """Whether an error is gloo's or NCCL's for a connection that the other side closed."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in ("onnection", "gloo", "NCCL"))


def meet(ranks: Ranks) -> Any:
    """The store by which the processes of torchrun or srun find each other."""
    from torch.distributed import TCPStore
    from torch.distributed.rendezvous import rendezvous

    if "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ:
        return next(rendezvous("env://", ranks.rank, ranks.world, timeout=PATIENCE))[0]
    from lightning_fabric.plugins.environments import SLURMEnvironment

    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST", "127.0.0.1")
    # A port of its own for each step of each job, so that jobs that share a machine do not meet.
    job, step = int(os.environ.get("SLURM_JOB_ID", 0)), os.environ.get("SLURM_STEP_ID", "0")
    port = 20_000 + (job * 31 + (int(step) if step.isdecimal() else 0)) % 40_000
    host = SLURMEnvironment.resolve_root_node_address(nodes)
    return TCPStore(host, port, ranks.world, is_master=ranks.leads, wait_for_workers=False, timeout=PATIENCE)


def join(ranks: Ranks, store: Any, gpu: bool) -> None:
    """Make the process group: gloo for what lies in memory, and NCCL beside it for what lies on GPUs."""
    import torch
    import torch.distributed as dist

    if gpu:
        torch.cuda.set_device(ranks.local % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
    group = dist.PrefixStore("recbench/group", store)
    dist.init_process_group(backend, store=group, rank=ranks.rank, world_size=ranks.world, timeout=PATIENCE)


def uses_gpu(hardware: HardwareConfig) -> bool:
    import torch

    return hardware.accelerator != "cpu" and torch.cuda.is_available()


def share_of_threads(n: int, hardware: HardwareConfig) -> int:
    """CPU threads of each of n processes of this machine; 0 where the user says it, or where GPUs do the work."""
    if hardware.threads or uses_gpu(hardware):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // n)


def check_spawn(hardware: HardwareConfig) -> None:
    """Raise UserError for processes that this one cannot start."""
    import torch

    if hardware.nodes > 1:
        raise UserError(
            f"hardware.nodes={hardware.nodes} needs a launcher that starts processes on other machines: srun or torchrun"
        )
    if uses_gpu(hardware) and hardware.devices > torch.cuda.device_count():
        raise UserError(
            f"hardware.devices={hardware.devices}, but there are {torch.cuda.device_count()} GPUs here; ask for no more than those"
        )
