"""A set of files for a machine without a network: wheels, prepared data, finished runs that others need, the first layers of a language model.

SET/wheels/*.whl    SET/cache/prepared/...    SET/runs/<key>/...    SET/model/...
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from experiments.gpu.run import ROOT

#: What recbench starts with, and the other machine may not have.
SMALL = ("hydra-core", "omegaconf", "filelock", "orjson")
ALL = (*SMALL, "polars", "polars-runtime-32")
#: Only to be had as source.
BUILT = ("antlr4-python3-runtime==4.9.3",)
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def pack(chosen: argparse.Namespace) -> int:
    """Make or complete a set. Returns the exit status: 2 where it is larger than ``--most``."""
    to = chosen.to
    if chosen.wheels:
        wheels(to / "wheels", ALL if chosen.wheels == "all" else SMALL, chosen.python)
    for words in chosen.data:
        data(words.split(), to / "cache")
    for run in chosen.runs:
        shutil.copytree(run, to / "runs" / run.name, ignore=shutil.ignore_patterns("resume.ckpt"), dirs_exist_ok=True)
    if chosen.model is not None:
        shutil.copytree(chosen.model, to / "model", dirs_exist_ok=True)
    parts = sorted(path for path in to.iterdir())
    sizes = {part.name: sum(p.stat().st_size for p in part.rglob("*") if p.is_file()) / 1e6 for part in parts}
    for name, size in sizes.items():
        print(f"{name}: {size:.1f} MB")
    if sum(sizes.values()) > chosen.most:
        print(f"{to} has {sum(sizes.values()):.1f} MB, more than {chosen.most:g}: make one set for each piece")
        return 2
    return 0


def wheels(to: Path, names: tuple[str, ...], python: str) -> None:
    """Fetch wheels of the versions in constraints.txt for the other machine's Python."""
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, separator, version = line.partition("==")
        if separator:
            pinned[name.strip().lower()] = version.split(";")[0].strip()
    to.mkdir(parents=True, exist_ok=True)
    wanted = [f"{name}=={pinned[name]}" if name in pinned else name for name in names]
    pip = [sys.executable, "-m", "pip"]
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    where = ["--no-deps", "--only-binary=:all:", "--python-version", python, "--implementation", "cp", *platforms]
    subprocess.run([*pip, "download", "-q", *where, "-d", str(to), *wanted], check=True)
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(to), *BUILT], check=True)


def data(words: list[str], cache: Path) -> None:
    """Prepare a data set here, unless it is, and copy it into the set."""
    from recbench.config.compose import compose
    from recbench.data.brought import bring
    from recbench.data.store import prepare

    config = compose(["model=popularity", *words])
    bring(config.data, prepare(config.data, config.cache_dir), cache)


def use(packed: Path, out: Path) -> None:
    """On the other machine: unpack wheels, and copy data and runs to where this machine writes. Data and runs that are there stay."""
    site = out / "site"
    for wheel in sorted((packed / "wheels").glob("*.whl")):
        if not (site / f".{wheel.name}").exists():
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
            (site / f".{wheel.name}").touch()
    paths = [str(site), str(ROOT / "src"), str(ROOT)]
    sys.path[:0] = [path for path in paths if path not in sys.path]
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])
    for part in ("cache", "runs"):
        if (packed / part).is_dir():
            shutil.copytree(packed / part, out / part, dirs_exist_ok=True)
    if (packed / "model").is_dir():
        os.environ["RECBENCH_LANGUAGE_MODEL"] = str((packed / "model").absolute())
