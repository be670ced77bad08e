"""Where a run comes from: commit, versions, machine, hashes."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import recbench
from recbench.core.errors import UserError
from recbench.data.protocol import PLUG_INS as protocols
from recbench.data.sources import PLUG_INS as sources
from recbench.evaluation.added_metrics import PLUG_INS as metrics
from recbench.models.auxiliary import PLUG_INS as auxiliaries
from recbench.models.registry import PLUG_INS as models
from recbench.objectives.distillation.configs import PLUG_INS as objectives
from recbench.training.convergence import EPOCHS_TRIED

if TYPE_CHECKING:
    from recbench.config.run import RunConfig
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
    "omegaconf",
    "safetensors",
    "tokenizers",
    "accelerate",
    "pyarrow",
    "orjson",
    "bitsandbytes",
    "optuna",
    "submitit",
)

#: How far a second run of the same config, versions and machine has the same result, given the runs it stands on.
DETERMINISM = {
    "exact": "every random number is drawn from the seed and sums are taken in one order: the same ranks to the bit (a process on a CPU, with the "
    "same number of threads)",
    "seeded": "every random number is drawn from the seed, but sums may be taken in another order: figures agree up to rounding, and what training "
    "makes of it (a GPU, several processes, compiled layers, another precision)",
    "none": "something is drawn that the seed does not decide",
}


def provenance(config: RunConfig, data: PreparedData, split: Split, dependencies: Mapping[str, str]) -> dict[str, Any]:
    """Everything that a reader needs to trust or repeat a run, as plain values."""
    import torch

    from recbench.training.processes.ranks import device_of

    device = device_of(config.hardware)
    level = determinism(config, device.type)
    return {
        **code_state(),
        "command": " ".join(sys.argv),
        "config_hash": config_hash(config),
        "seed": config.seed,
        "determinism": level,
        "determinism_meaning": DETERMINISM[level],
        "protocol": split.protocol_id,
        "split_hash": split.split_hash,
        "data_fingerprint": data.judged_fingerprint,
        "raw_files": data.manifest.get("files", {}),
        "dependencies": dict(dependencies),
        "versions": versions(),
        "plug_ins": plug_ins_of(config),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "threads": config.hardware.threads or torch.get_num_threads(),
        "device": str(device),
        "drivers": drivers(),
        "gpu": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def plug_ins_of(config: RunConfig) -> dict[str, str]:
    """The parts of a run that other packages bring: ``model=mine`` -> ``package version``."""
    named = [
        (models, f"model={config.model.name}"),
        (sources, f"data={config.data.name}"),
        (protocols, f"protocol={config.protocol.name}"),
        (objectives, f"distillation={config.distillation.name}"),
        *((auxiliaries, f"model.auxiliary={name}") for name in getattr(config.model, "auxiliary", [])),
        *((metrics, f"evaluation.metrics={name}") for name in config.evaluation.metrics),
    ]
    found = {word: plug_ins.origin(word.partition("=")[2]) for plug_ins, word in named}
    return {word: origin for word, origin in found.items() if origin is not None}


def config_hash(config: RunConfig) -> str:
    """Of the whole resolved config as config.yaml holds it, places and hardware included; the run's key is the hash of what decides the result."""
    text = json.dumps(config.as_dict(), sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def determinism(config: RunConfig, device: str) -> str:
    """A key of DETERMINISM, for a config on a type of device ("cpu", "cuda")."""
    from recbench.models.registry import lookup
    from recbench.training.processes.ranks import launched

    if not lookup(config.model.name).model.is_seeded:
        return "none"
    hardware = config.hardware
    alone = hardware.devices * hardware.nodes == 1 and launched().world == 1
    plain = hardware.precision == "fp32" and not hardware.compile
    return "exact" if device == "cpu" and alone and plain else "seeded"


def drivers() -> dict[str, str]:
    """Versions of what lies below the packages, as far as they are there: the GPU's driver, CUDA and cuDNN, the C library."""
    import torch

    found = {"nvidia": nvidia_driver(), "cuda": torch.version.cuda, "hip": torch.version.hip}
    if torch.version.cuda and torch.backends.cudnn.is_available():
        found["cudnn"] = str(torch.backends.cudnn.version())
    found["libc"] = " ".join(platform.libc_ver()).strip()
    return {name: str(value) for name, value in found.items() if value}


def nvidia_driver(place: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """The version of the kernel's driver, None without one."""
    if not place.is_file():
        return None
    words = place.read_text(encoding="utf-8", errors="replace").splitlines()[0].split()
    return next((word for word in words if word[0].isdigit() and "." in word), None)


def exit_reason(config: RunConfig, figures: Mapping[str, Any]) -> str:
    """Why a finished run ended where it did; for ``status.json``, beside the state."""
    epochs = figures.get("cost/epochs")
    if config.compression.name != "none":
        return "compressed"
    if epochs is None:
        return "computed"
    if EPOCHS_TRIED in figures:
        return f"trained on validation too, for the {epochs} epochs that were the best of {figures[EPOCHS_TRIED]} without it"
    if epochs < config.training.max_epochs:
        return f"no better validation for {config.training.patience} epochs, after {epochs} of {config.training.max_epochs}"
    return f"all {epochs} epochs trained"


@functools.cache
def code_state() -> dict[str, Any]:
    """{"commit", "dirty"} of the checkout that recbench runs from; of a copy without one, what RECBENCH_COMMIT says; else None."""
    package = Path(recbench.__file__).resolve()

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(package.parent), *arguments], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed package may lie in a virtual environment inside somebody else's checkout: that commit is not ours.
    if git("ls-files", "--error-unmatch", str(package)) is None:
        return {"commit": os.environ.get("RECBENCH_COMMIT") or None, "dirty": None}
    status = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def versions() -> dict[str, str]:
    """Package -> version, of those that are installed."""
    return {name: found for name in PACKAGES if (found := _version(name)) is not None}


def refuse_other_draws(key: str, model: Any, made_with: Mapping[str, str]) -> None:
    """Refuse a stored run whose frozen random weights would be drawn anew by other versions of what draws them.

    They are not stored. Raises UserError where torch or transformers is not what the run was ``made_with`` (package -> version).
    """
    drawn = getattr(model, "init", None) == "random_frozen" or (
        getattr(model, "tower_init", None) == "random" and getattr(model, "tower_train", None) == "lora"
    )
    if not drawn:
        return
    here = versions()
    other = [
        f"{name} {made_with[name]}, here {here.get(name)}"
        for name in ("torch", "transformers")
        if name in made_with and made_with[name].split("+")[0] != str(here.get(name)).split("+")[0]
    ]
    if other:
        raise UserError(
            f"{key} has frozen random weights, which are drawn again when it is opened, and other versions may draw others ({'; '.join(other)}); "
            "open it with the versions that it was trained with, or train it here"
        )


@functools.cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """Model name and core count of the CPU."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.is_file()
        else []
    )
    return f"{names[0] if names else platform.processor()} x{os.cpu_count()}"
