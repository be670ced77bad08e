"""What this machine is: processor, memory, disk, GPUs and their driver, Slurm, counters of energy. Nothing heavy is imported, nothing is written."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from recbench.experiment.provenance import nvidia_driver, processor

#: That a program may take to answer.
SECONDS = 3


def machine(runs_dir: Path, cache_dir: Path) -> dict[str, Any]:
    """Plain values, None where something is not known. Sizes in bytes."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": memory(),
        "disk": {str(place): disk(place) for place in dict.fromkeys((runs_dir, cache_dir))},
        "gpus": gpus(),
        "nvidia_driver": nvidia_driver(),
        "slurm": slurm(),
        "git": shutil.which("git") is not None,
        "compiler": next((name for name in ("g++", "clang++", "c++") if shutil.which(name)), None),
        "energy": energy(),
        "offline": bool(os.environ.get("HF_HUB_OFFLINE")),
    }


def memory(info: Path = Path("/proc/meminfo"), groups: Path = Path("/sys/fs/cgroup")) -> dict[str, int | None]:
    """{"total", "available", "limit"}: the last is that of the container, where it has one."""
    found: dict[str, int] = {}
    if info.is_file():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            if value.strip().endswith("kB"):
                found[name] = 1024 * int(value.split()[0])
    limit = None
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = groups / name
        text = path.read_text().strip() if path.is_file() else ""
        if text.isdecimal() and int(text) < found.get("MemTotal", 1 << 62):
            limit = int(text)
    return {"total": found.get("MemTotal"), "available": found.get("MemAvailable"), "limit": limit}


def disk(place: Path) -> dict[str, Any]:
    """{"free", "writable"} of the nearest folder above a place that exists."""
    there = next(path for path in (place, *place.absolute().parents) if path.is_dir())
    return {"free": shutil.disk_usage(there).free, "writable": os.access(there, os.W_OK)}


def gpus() -> list[dict[str, str]]:
    """Name, memory and driver of each NVIDIA GPU, as nvidia-smi tells them; [] without it."""
    fields = ("name", "memory.total", "driver_version")
    told = _said("nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader")
    return [
        dict(zip(fields, (cell.strip() for cell in line.split(",")), strict=False))
        for line in told.splitlines()
        if line
    ]


def slurm() -> dict[str, str | None] | None:
    """{"version", "job"}: of sbatch, and the id of the job that this is; None where there is no Slurm."""
    if shutil.which("sbatch") is None:
        return None
    return {"version": _said("sbatch", "--version").strip() or None, "job": os.environ.get("SLURM_JOB_ID")}


def energy(powercap: Path = Path("/sys/class/powercap")) -> dict[str, Any]:
    """{"cpu": readable | forbidden | absent, "gpu": whether NVML's package is installed}."""
    from importlib.util import find_spec

    counters = list(powercap.glob("intel-rapl:*/energy_uj"))
    readable = any(os.access(path, os.R_OK) for path in counters)
    return {
        "cpu": "readable" if readable else "forbidden" if counters else "absent",
        "gpu": find_spec("pynvml") is not None,
    }


def _said(*command: str) -> str:
    """What a program prints; "" if it is not there, fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
