"""One piece of work on one size of data, in a process of its own; ``benchmarks.scale`` starts these and reads the line that they print."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from recbench.data.prepared import PreparedData
    from recbench.data.split import Split
    from recbench.models.base import Recommender

EVENTS_OF_A_USER, LEAST_EVENTS = 100, 5
#: Of the history that a model sees; targets of a training step.
MAX_LENGTH, BATCH_TARGETS = 50, 2048
#: Steps before the clock starts: the first ones allocate.
WARM_UP = 3
#: Width of the model; of the item table it is all that matters to cost.
WIDTH = 64


class Memory(threading.Thread):
    """Looks at the memory of this process fifty times a second, for the peak of what is its own alone.

    The kernel keeps the peak of all resident pages (VmHWM), but those include pages of mapped files, which it takes back when others need them.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = 0

    def run(self) -> None:
        while True:
            self.own = max(self.own, status("RssAnon"))
            time.sleep(0.02)


def status(name: str) -> int:
    """Bytes of an entry of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}; benchmarks.scale needs Linux")


def write_table(path: Path, n_items: int, n_interactions: int, seed: int = 0) -> None:
    """A Parquet table user, item, timestamp of exactly so many events, in which every item occurs, a block of users at a time.

    Half of the events follow from the one before by a fixed rule, the others are skewed towards popular items; so there is something to learn,
    though what is measured here does not depend on it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng((seed, n_items, n_interactions))
    n_users = max(1, n_interactions // EVENTS_OF_A_USER)
    weight = rng.exponential(size=n_users)
    lengths = LEAST_EVENTS + np.floor(weight / weight.sum() * (n_interactions - LEAST_EVENTS * n_users)).astype(
        np.int64
    )
    lengths[: n_interactions - int(lengths.sum())] += 1
    every, block = max(1, n_interactions // n_items), 10_000
    first, writer = 0, None
    for top in range(0, n_users, block):
        own = lengths[top : top + block]
        n = int(own.sum())
        drawn = (rng.random(n) ** 3 * n_items).astype(np.int64)
        item = np.where(rng.random(n) < 0.5, drawn, (np.roll(drawn, 1) * 7 + 13) % n_items)
        event = first + np.arange(n)
        fixed = (event % every == 0) & (event // every < n_items)
        item[fixed] = (
            (event[fixed] // every) * 48_271 % n_items if np.gcd(48_271, n_items) == 1 else event[fixed] // every
        )
        number = np.arange(n) - np.repeat(np.cumsum(own) - own, own)
        user = np.repeat(top + np.arange(len(own)), own)
        start = np.repeat(rng.integers(0, 90 * 86_400, len(own)), own)
        columns = {"user": user, "item": item, "timestamp": 1_577_836_800 + start + number * 3_600}
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
        first += n
    assert writer is not None
    writer.close()


def prepared(folder: Path) -> PreparedData:
    from recbench.data.sources.table_config import TableConfig
    from recbench.data.store import prepare

    return prepare(TableConfig(path=str(folder / "events.parquet"), k_core=0), folder)


def split_of(data: PreparedData) -> Split:
    from recbench.data.protocol import LeaveOneOutConfig
    from recbench.data.split import make_split

    return make_split(data, LeaveOneOutConfig(seen_items="mask"), None)


def model_of(data: PreparedData, split: Split, loss: str) -> Recommender:
    import torch

    from recbench.data.training import TrainingData
    from recbench.models.base import ModelContext
    from recbench.models.sequential.sasrec import SASRec, SASRecConfig

    torch.manual_seed(0)
    counts = torch.from_numpy(TrainingData.of(data, split).item_counts())
    config = SASRecConfig(hidden_size=WIDTH, loss=loss)
    return SASRec(config, ModelContext(data.n_items, data.n_users, MAX_LENGTH, counts))


class EnoughError(Exception):
    """So many steps were asked for; raised to leave ``fit``."""


def train(folder: Path, loss: str, gradients: str, steps: int, batch: int) -> dict[str, Any]:
    """Seconds of an epoch from ``steps`` steps after the first few, by ``recbench.training.fit.fit`` as in any run."""
    from recbench.config.settings import HardwareConfig, TrainingConfig
    from recbench.core.epoch_bar import Progress
    from recbench.core.run_folder import RunFolder
    from recbench.data.training import TrainingData
    from recbench.training.fit import fit

    class Clock(Progress):
        """Stands where a person's progress bar stands; ends the training after so many steps."""

        def step(self, sums: Mapping[str, Tensor], done: int) -> None:
            self.done += 1
            if self.done == WARM_UP:
                self.started = time.perf_counter()
            if self.done == WARM_UP + steps:
                self.seconds = time.perf_counter() - self.started
                raise EnoughError

    data = prepared(folder)
    split = split_of(data)
    clock = Clock("scale", 1, "ndcg@10", terminal=False)
    training = TrainingConfig(max_epochs=1, batch_size=batch, max_length=MAX_LENGTH, embedding_gradients=gradients)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, contextlib.suppress(EnoughError):
        fit(
            model_of(data, split, loss),
            TrainingData.of(data, split),
            RunFolder(Path(scratch)),
            training,
            HardwareConfig(accelerator="cpu"),
            0,
            lambda _: {"ndcg@10": 0.0},
            "ndcg@10",
            clock,
        )
    if not hasattr(clock, "seconds"):
        raise SystemExit(f"an epoch has only {clock.done} steps of {batch} targets; lower --steps")
    return {"seconds": clock.seconds / steps * clock.steps, "step_seconds": clock.seconds / steps, "steps": clock.steps}


def evaluate(folder: Path, users: int) -> dict[str, Any]:
    """Seconds of a full ranking of all test users, from ``users`` of them, spread evenly."""
    import torch

    from recbench.evaluation.blocks import block_rows
    from recbench.evaluation.cost.efficiency import spread
    from recbench.evaluation.evaluate import evaluate as rank
    from recbench.experiment.asking import score_function

    data = prepared(folder)
    split = split_of(data)
    model = model_of(data, split, "softmax").eval()
    rows = block_rows(data.n_items, MAX_LENGTH)
    wanted = min(len(split.test), max(rows, users // rows * rows))
    cases = split.test.select(spread(len(split.test), wanted))
    score = score_function(model, torch.device("cpu"))
    rank(score, data, cases.select(np.arange(min(rows, wanted))), split, MAX_LENGTH)
    started = time.perf_counter()
    rank(score, data, cases, split, MAX_LENGTH)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds / wanted * len(split.test),
        "users": wanted,
        "users_in_all": len(split.test),
        "rows": rows,
    }


def prepare(folder: Path) -> dict[str, Any]:
    started = time.perf_counter()
    data = prepared(folder)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "n_items": data.n_items, "n_users": data.n_users, "rows": data.n_interactions}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.scale_work", description=__doc__)
    parser.add_argument("work", choices=["table", "prepare", "sampled", "sampled_dense", "full_softmax", "evaluate"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=0)
    parser.add_argument("--interactions", type=int, default=0)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=BATCH_TARGETS)
    parser.add_argument("--users", type=int, default=256)
    asked = parser.parse_args()
    memory = Memory()
    memory.start()
    found: dict[str, Any] = {}
    if asked.work == "table":
        asked.folder.mkdir(parents=True, exist_ok=True)
        write_table(asked.folder / "events.parquet", asked.items, asked.interactions)
    elif asked.work == "prepare":
        found = prepare(asked.folder)
    elif asked.work == "evaluate":
        found = evaluate(asked.folder, asked.users)
    else:
        loss = "softmax" if asked.work == "full_softmax" else "sampled_softmax"
        gradients = "sparse" if asked.work == "sampled" else "dense"
        found = train(asked.folder, loss, gradients, asked.steps, asked.batch)
    print(json.dumps({**found, "peak_bytes": status("VmHWM"), "own_peak_bytes": memory.own}))


if __name__ == "__main__":
    main()
