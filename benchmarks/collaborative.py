"""An epoch of LightGCN here and in RecBole, at equal sizes and batch, in turn: ``python -m benchmarks.collaborative``.

    --data FOLDER     holds train.txt or train.txt.gz, a user a line: ``user item item ...``, such as LightGCN's Gowalla;
                      without it, pairs are drawn with Gowalla's shape
    --rounds 3        each round runs RecBole and then recbench, a process each; a ratio is taken within a round
    --steps 4         steps that RecBole makes of an epoch; the rest is extrapolated

Layers 3, width 64, 32,768 events a step, Adam at .001, the penalty 1e-4 of the rows of a batch, one drawn negative an event.
RecBole holds back two events in a thousand, because it insists on an evaluation. Printed are seconds on the clock and of the
processor, and the peak of the process's memory.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rivals.environments import ROOT, bench_folder, clean_environ, environment

#: Gowalla's users, items and training events.
SHAPE = 29_858, 40_981, 810_128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32_768)
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ours is not None:
        print(json.dumps(our_epoch(given.ours, given.batch, given.threads)))
        return
    user, item = read(given.data) if given.data else drawn()
    print(f"{len(user):,} pairs of {user.max() + 1:,} users and {item.max() + 1:,} items; {given.threads} threads")
    python = environment("recbole")
    with tempfile.TemporaryDirectory(dir=bench_folder("scratch")) as scratch:
        folder = Path(scratch)
        np.savez(folder / "pairs.npz", user=user, item=item)
        write_inter(folder / "pairs" / "pairs.inter", user, item)
        ratios = []
        for _ in range(given.rounds):
            theirs = of_recbole(python, folder, given)
            own = [sys.executable, "-m", "benchmarks.collaborative", "--ours", str(folder / "pairs.npz")]
            ours = last_line([*own, "--batch", str(given.batch), "--threads", str(given.threads)])
            ratios.append(theirs["cpu_seconds"] / ours["cpu_seconds"])
            for name, found in (("RecBole", theirs), ("recbench", ours)):
                memory = found["peak_bytes"] / 2**30
                print(
                    f"  {name:<9} {found['seconds']:8.2f} s   {found['cpu_seconds']:8.2f} s of the processor   {memory:5.2f} GiB"
                )
        print(f"an epoch of RecBole over one of recbench, of the processor: {sorted(ratios)[len(ratios) // 2]:.1f}")


def of_recbole(python: Path, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """RecBole's epoch, extrapolated to all of its steps."""
    words = ["--data", str(folder), "--name", "pairs", "--scratch", str(folder / "logs"), "--steps", str(given.steps)]
    words += ["--threads", str(given.threads), "--batch", str(given.batch)]
    found = last_line([str(python), "-m", "benchmarks.rivals.recbole_lightgcn", *words])
    whole = found["of"] / found["steps"]
    return {**found, "seconds": found["seconds"] * whole, "cpu_seconds": found["cpu_seconds"] * whole}


def last_line(command: list[str]) -> dict[str, Any]:
    """What a process prints last. Raises SystemExit with its errors if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=clean_environ(), check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
    return found


def our_epoch(path: Path, batch: int, threads: int) -> dict[str, Any]:
    """The second epoch of ours, as a run makes it: rows, negatives, loss, gradient and optimiser."""
    import torch

    from recbench.config.settings import TrainingConfig
    from recbench.core.freed_memory import keep_freed_memory
    from recbench.data.prepared import PreparedData
    from recbench.data.training import TrainingData
    from recbench.data.training_rows import epoch_sampler, training_rows
    from recbench.models.base import ModelContext
    from recbench.models.collaborative.lightgcn import LightGCN, LightGCNConfig
    from recbench.training.learner import Learner

    torch.set_num_threads(threads)
    keep_freed_memory()
    held = np.load(path)
    order = np.argsort(held["user"], kind="stable")
    user, item = held["user"][order], held["item"][order] + 1
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user))])
    data = PreparedData.from_arrays(path.parent / "prepared", item, offsets, n_items=int(item.max()))
    train = TrainingData(data, data.offsets[:-1], data.offsets[1:])
    rows = training_rows(train, LightGCN.trains_on, 50)
    model = LightGCN(LightGCNConfig(), ModelContext(train.n_items, train.n_users, 50, train=train))
    learner = Learner(model.train(), TrainingConfig(), 1)
    optimizer = learner.configure_optimizers()
    sampler = epoch_sampler(rows, "events", batch, seed=1)
    found = {}
    for epoch in range(2):
        sampler.set_epoch(epoch)
        clock, cpu = time.perf_counter(), time.process_time()
        for number, index in enumerate(sampler):
            optimizer.zero_grad()
            learner.training_step(rows[index], number).backward()
            optimizer.step()
        found = {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {**found, "peak_bytes": peak, "loss": learner.take_means()["loss"]}


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(user, item) of lists of items, ids from 0."""
    path = next(path for path in (folder / "train.txt.gz", folder / "train.txt") if path.is_file())
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        rows = [np.array(line.split(), dtype=np.int64) for line in lines if line.strip()]
    return np.concatenate([np.full(len(row) - 1, row[0]) for row in rows]), np.concatenate([row[1:] for row in rows])


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Pairs of Gowalla's shape, users and items of falling popularity."""
    n_users, n_items, n = SHAPE
    generator = np.random.default_rng(0)
    drawn = [(size * generator.power(0.5, 2 * n)).astype(np.int64) for size in (n_users, n_items)]
    pair = np.unique(np.concatenate([drawn[0] * n_items + drawn[1], np.arange(n_users) * n_items]))
    pair = np.sort(generator.permutation(pair)[:n])
    return np.divmod(pair, n_items)


def write_inter(path: Path, user: np.ndarray, item: np.ndarray) -> None:
    """RecBole's atomic file."""
    path.parent.mkdir()
    with path.open("w") as file:
        file.write("user_id:token\titem_id:token\n")
        np.savetxt(file, np.stack([user, item], 1), fmt="%d", delimiter="\t")


if __name__ == "__main__":
    main()
