"""Where a run computes, and on how many threads."""

from __future__ import annotations

import torch

from recbench.config.settings import HardwareConfig
from recbench.core.errors import UserError
from recbench.core.freed_memory import keep_freed_memory
from recbench.evaluation.cost.meters import Meters
from recbench.training.processes import ranks as processes


def prepare_device(hardware: HardwareConfig, seed: int) -> None:
    """Threads, memory and random numbers of this process, before a model is built. Raises UserError for a GPU that is not there."""
    if hardware.accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError(
            f"hardware.accelerator=gpu, but torch {torch.__version__} finds no CUDA device here; use hardware=cpu"
        )
    if hardware.threads:
        torch.set_num_threads(hardware.threads)
    keep_freed_memory()
    torch.manual_seed(seed)


def device_of(hardware: HardwareConfig) -> torch.device:
    """Where evaluation computes in this process."""
    return processes.device_of(hardware, processes.here().local)


def device_name(device: torch.device) -> str:
    """``cpu``, or the GPU with its name; the processor's stands in provenance.json."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def reads_energy(hardware: HardwareConfig) -> bool:
    """Whether a counter of energy can be read where this run computes."""
    return Meters(device_of(hardware)).reads_energy
