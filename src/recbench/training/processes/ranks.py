"""Which of several processes this one is, and the little that they say to each other while they work on one run.

Everything here also holds for a process alone: it is then the first of one, and nothing is sent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

    from recbench.config.settings import HardwareConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """rank: this process among ``world`` ones, from 0; local: among those of its machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes, prints and decides."""
        return self.rank == 0


_here = Ranks()


def here() -> Ranks:
    """The processes that work on the present run together with this one; alone outside of ``working_as``."""
    return _here


@contextmanager
def working_as(ranks: Ranks) -> Iterator[None]:
    """Within: ``here()`` is ``ranks``, and the functions below reach the others. The process group must exist."""
    global _here
    before, _here = _here, ranks
    try:
        yield
    finally:
        _here = before


def launched(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Which process torchrun or srun made of this one; alone if neither started it.

    Of Slurm's variables those of the step are read: the script of a batch job has the job's too, but is one process only.

    >>> launched({"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4"})
    Ranks(rank=3, world=4, local=1)
    >>> launched({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"})
    Ranks(rank=0, world=1, local=0)
    """
    for rank, world, local, needed in (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_PROCID"),
    ):
        if {rank, world, local, needed} <= environment.keys() and int(environment[world]) > 1:
            return Ranks(int(environment[rank]), int(environment[world]), int(environment[local]))
    return Ranks()


def device_of(hardware: HardwareConfig, local: int = 0) -> torch.device:
    """The device of the process with that local rank."""
    import torch

    if hardware.accelerator != "cpu" and (hardware.accelerator == "gpu" or torch.cuda.is_available()):
        # With one GPU shown to each process, all of them call it the first one.
        return torch.device("cuda", local % max(1, torch.cuda.device_count())) if local else torch.device("cuda")
    return torch.device("cpu")


def barrier() -> None:
    """Wait until all are here."""
    gather(None)


def gather(mine: T) -> list[T]:
    """What each process has, by rank; the same list for all. What is sent is pickled: meant for arrays and small things."""
    if _here.world == 1:
        return [mine]
    import torch.distributed as dist

    found: list[Any] = [None] * _here.world
    dist.all_gather_object(found, mine)
    return found


def from_first(value: T) -> T:
    """What the first process has."""
    if _here.world == 1:
        return value
    import torch.distributed as dist

    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def mean(values: Mapping[str, float]) -> dict[str, float]:
    """Mean over the processes, by name; in order of rank, so that it is the same to the bit for all."""
    found = gather(dict(values))
    return {name: sum(each[name] for each in found) / len(found) for name in values} if len(found) > 1 else found[0]


@contextmanager
def first_before_others() -> Iterator[None]:
    """The first process does what follows, and then the others do it and find it done."""
    if not _here.leads:
        barrier()
    yield
    if _here.leads:
        barrier()
