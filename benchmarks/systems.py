"""The systems that take turns, how each is started, and the data that each is given."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import Sequences, write_recbole
from benchmarks.measure import Command
from benchmarks.rivals.environments import ROOT, bench_folder, clean_environ, environment, tcmalloc
from benchmarks.task import SASRecTask


@dataclass(frozen=True)
class System:
    """A program that answers a task.

    rival: whose environment it runs in; None for this Python. quick: its epoch takes well under a minute on two cores, so a round makes
    several, and none is cut. batch: what it trains at a time when it is left to itself.
    """

    module: str
    title: str
    batch: str
    rival: str | None = None
    quick: bool = False


SYSTEMS = {
    "recbole": System("benchmarks.rivals.recbole_sasrec", "RecBole 1.2.1", "2,048 prefixes", rival="recbole"),
    "rectools": System("benchmarks.rivals.rectools_sasrec", "RecTools 0.19", "128 users", rival="rectools"),
    "one_negative": System(
        "benchmarks.rivals.one_negative", "one negative, pmixer's way (our rewriting)", "128 users", quick=True
    ),
    "ours": System("benchmarks.ours", "recbench", "512 targets", quick=True),
    "floor": System("benchmarks.floor", "floor", ""),
}
PRELOADED = "+tcmalloc"
#: Beauty's review file with 22,363 users and 12,101 items: what stands for it when there is no file.
SHAPE = "beauty_shape"


def names() -> list[str]:
    """All systems that may be asked for, each as installed and with tcmalloc."""
    bare = [name for name in SYSTEMS if name != "floor"]
    return [name + ending for name in bare for ending in ("", PRELOADED)]


def title(name: str) -> str:
    return SYSTEMS[name.removesuffix(PRELOADED)].title + (" with tcmalloc" if name.endswith(PRELOADED) else "")


def of(name: str) -> System:
    return SYSTEMS[name.removesuffix(PRELOADED)]


def command(name: str, task: SASRecTask, data: Path, digest: str) -> Command:
    """How to start a system on a task. Makes the rival's environment and its form of the data where they are missing."""
    system = of(name)
    environ = {**clean_environ(), "OMP_NUM_THREADS": str(task.threads), "PYTHONPATH": str(ROOT)}
    if name.endswith(PRELOADED):
        environ["LD_PRELOAD"] = tcmalloc() or ""
    python = Path(sys.executable) if system.rival is None else environment(system.rival)
    words = [str(python), "-m", system.module, "--data", str(data)]
    if system.rival == "recbole":
        atomic = bench_folder("data", digest, "recbole")
        if not (atomic / "data" / "data.inter").is_file():
            write_recbole(Sequences.open(data), atomic, "data")
        words[-1:] = [str(atomic), "--name", "data"]
    if system.rival is not None:
        words += ["--scratch", str(bench_folder("scratch", system.rival))]
    elif name.removesuffix(PRELOADED) in ("ours", "floor"):
        environ["PYTHONPATH"] += f":{ROOT / 'src'}"
    return Command([*words, *task.as_arguments()], environ)


def data_folder(given: Path | None) -> Path:
    """The folder of arrays of what was given: itself, an Amazon review file turned into one, or drawn data of Beauty's shape.

    Raises SystemExit for a path that is neither.
    """
    if given is not None and (given / "offsets.npy").is_file():
        return given.resolve()
    if given is not None and not given.is_file():
        sys.exit(f"{given} is neither a folder with items.npy, offsets.npy and timestamps.npy, nor a review file")
    if given is None:
        folder, words = bench_folder("data", SHAPE), ["-m", "benchmarks.shape"]
    else:
        stat = given.stat()
        mark = hashlib.sha256(f"{given.name} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]
        folder = bench_folder("data", f"{given.name.split('.')[0]}-{mark}")
        words = ["-m", "benchmarks.data", str(given.resolve())]
    if not (folder / "timestamps.npy").is_file():  # the last of the arrays to be written
        environ = {**clean_environ(), "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
        # A process of its own, because the memory of this one counts against every system that it starts.
        subprocess.run([sys.executable, *words, str(folder)], env=environ, cwd=ROOT, check=True, stdout=sys.stderr)
    return folder
