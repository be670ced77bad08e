"""What a stretch of work took of the machine: CPU seconds, energy where a counter can be read, and the peak of memory.

CPU seconds are those of this process, over all its threads. Energy is what the counters of the hardware say: RAPL's packages through Linux'
powercap, and a GPU through NVML (the package nvidia-ml-py). Both count the whole chip, whoever works on it. A counter that is not there, or
that this user may not read, gives no figure.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")
CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")

CPU_SECONDS, CPU_JOULES, GPU_JOULES = "cpu_seconds", "cpu_joules", "gpu_joules"


class Meters:
    """Counters that only rise. ``read`` them before and after, then ask ``spent`` for the difference."""

    def __init__(self, device: torch.device | str = "cpu", powercap: Path = POWERCAP) -> None:
        # Packages alone, such as intel-rapl:0; their parts, intel-rapl:0:0, are contained in them.
        self.device = torch.device(device)
        zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
        self.packages = {zone.name: zone for zone in zones if _number(zone / "energy_uj") is not None}
        self._gpu = gpu_energy(self.device)

    @property
    def reads_energy(self) -> bool:
        """Whether there is any counter of energy."""
        return bool(self.packages) or self._gpu is not None

    def read(self) -> dict[str, float]:
        """The counters as they stand, energy in joules; one entry a package."""
        found = {CPU_SECONDS: time.process_time()}
        for name, zone in self.packages.items():
            value = _number(zone / "energy_uj")
            if value is not None:
                found[f"{CPU_JOULES}/{name}"] = value / 1e6
        if self._gpu is not None:
            found[GPU_JOULES] = self._gpu()
        return found

    def spent(self, before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
        """{"cpu_seconds"} and, where counters were read both times, "cpu_joules" (all packages) and "gpu_joules"."""
        total: dict[str, float] = {}
        for name in before:
            if name not in after:
                continue
            difference = after[name] - before[name]
            kind, _, package = name.partition("/")
            if difference < 0:  # a register that was full began again from 0
                most = _number(self.packages[package] / "max_energy_range_uj") if package else None
                if most is None:
                    continue
                difference += most / 1e6
            total[kind] = total.get(kind, 0.0) + difference
        return total


def spent_figures(spent: Mapping[str, float], seconds: float, device: torch.device, processes: int) -> dict[str, float]:
    """What a training took, as figures of a run: ``cost/train_cpu_seconds`` · ``cost/train_gpu_seconds``, seconds times GPUs that were held, busy
    or not · ``cost/energy_cpu_joules``, ``cost/energy_gpu_joules`` and their sum, where counters could be read.

    spent: as ``Meters.spent`` gives it; seconds: by the clock.
    """
    figures = {}
    if CPU_SECONDS in spent:
        figures["cost/train_cpu_seconds"] = spent[CPU_SECONDS]
    if device.type == "cuda":
        figures["cost/train_gpu_seconds"] = seconds * processes
    energy = {f"cost/energy_{name}": spent[name] for name in (CPU_JOULES, GPU_JOULES) if name in spent}
    return figures | energy | ({"cost/energy_joules": sum(energy.values())} if energy else {})


def gpu_energy(device: torch.device) -> Callable[[], float] | None:
    """Reads the joules that a GPU has used since its driver was loaded; None without a GPU, the package or the counter."""
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        # By its name, because CUDA_VISIBLE_DEVICES numbers the GPUs anew.
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000


def reset_peaks(device: torch.device | str = "cpu", clear_refs: Path = CLEAR_REFS) -> bool:
    """Let the peaks of memory count from now on. Returns whether that of the resident set does; else it counts from the process's start."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        clear_refs.write_text("5")  # proc(5): resets VmHWM
    except OSError:
        return False
    return True


def peaks(device: torch.device | str = "cpu") -> dict[str, int]:
    """{"memory"}: bytes of the largest resident set of this process; on a GPU "gpu_memory" too, bytes of its tensors."""
    found = {"memory": _resident_peak()}
    if torch.device(device).type == "cuda":
        found["gpu_memory"] = torch.cuda.max_memory_allocated(device)
    return found


def _resident_peak() -> int:
    if STATUS.is_file():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None
