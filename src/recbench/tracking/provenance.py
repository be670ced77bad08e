"""Where a run comes from: commit, versions, machine, hashes."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbench.config import RunConfig
    from recbench.data.split import Split
    from recbench.data.store import PreparedData

#: Distributions whose version can change a number.
PACKAGES = (
    "recbench",
    "torch",
    "pytorch-lightning",
    "numpy",
    "scipy",
    "scikit-learn",
    "polars",
    "transformers",
    "peft",
    "torch-geometric",
    "mlflow",
    "hydra-core",
)


def provenance(config: RunConfig, data: PreparedData, split: Split, dependencies: Mapping[str, str]) -> dict[str, Any]:
    """Everything that a reader needs to trust or repeat a run, as plain values."""
    import torch

    return {
        **code_state(),
        "command": " ".join(sys.argv),
        "seed": config.seed,
        "protocol": split.protocol_id,
        "split_hash": split.split_hash,
        "data_fingerprint": data.fingerprint,
        "raw_files": data.manifest.get("files", {}),
        "dependencies": dict(dependencies),
        "versions": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "gpu": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


@functools.cache
def code_state() -> dict[str, Any]:
    """{"commit", "dirty"} of the checkout that recbench runs from; None for an installed package."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed package may lie in a virtual environment inside somebody else's checkout: that commit is not ours.
    if git("ls-files", "--error-unmatch", str(Path(__file__).resolve())) is None:
        return {"commit": None, "dirty": None}
    status = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Model name and core count of the CPU."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.is_file()
        else []
    )
    return f"{names[0] if names else platform.processor()} x{os.cpu_count()}"
