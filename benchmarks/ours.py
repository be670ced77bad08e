"""SASRec of recbench on a task; prints the lines that ``task.py`` describes.

Training is ``recbench.training.fit.fit`` and evaluation ``recbench.evaluation.evaluate``, as in any run: with checkpoints,
validation and progress; only runs, config files and tracking are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.data import Sequences, digest
from benchmarks.rivals.environments import bench_folder
from benchmarks.task import SASRecTask, emit, emit_end, emit_machine
from recbench.config.settings import HardwareConfig, TrainingConfig
from recbench.core.epoch_bar import Progress
from recbench.core.run_folder import RunFolder
from recbench.data.batches import training_windows
from recbench.data.prepared import PreparedData
from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.split import Cases, Split, make_split
from recbench.data.training import TrainingData
from recbench.evaluation.evaluate import evaluate
from recbench.models.base import ModelContext, Recommender
from recbench.models.sequential.sasrec import SASRec, SASRecConfig
from recbench.training.fit import fit


class ReachedError(Exception):
    """The asked-for NDCG@10 is reached; raised to leave ``fit``."""


class Stopwatch(Progress):
    """Stands where a person's progress bar stands: prints the lines of an epoch and ends the training at the bar."""

    def __init__(self, task: SASRecTask, folder: RunFolder, data: PreparedData, split: Split) -> None:
        super().__init__("sasrec", task.epochs, "ndcg@10", terminal=False)
        self.benchmark, self.folder, self.data, self.split = task, folder, data, split
        self.evaluations: list[dict[str, Any]] = []

    def epoch_starts(self, epoch: int, steps: int) -> None:
        if epoch == 0:
            emit("ready")
        super().epoch_starts(epoch, steps)

    def validate(self, model: Recommender) -> Mapping[str, float]:
        """Evaluate on validation and test; what ``fit`` calls after each epoch."""
        cases = {"validation": self.split.validation, "test": self.split.test}
        self.evaluations = [self._evaluation(model, name, part) for name, part in cases.items()]
        return {"ndcg@10": self.evaluations[0]["ndcg@10"]}

    def _evaluation(self, model: Recommender, name: str, cases: Cases) -> dict[str, Any]:
        started = time.perf_counter()
        found = rank(model, self.data, cases, self.split, self.benchmark.max_length)
        return {"split": name, "seconds": time.perf_counter() - started, "cases": len(cases), **found}

    def epoch_ends(self, epoch: int, loss: float, value: float | None, best: float, best_epoch: int) -> None:
        seconds = self.folder.history()[-1]["seconds/train"]
        emit(
            "epoch",
            epoch=epoch + 1,
            steps=self.steps,
            steps_of_epoch=self.steps,
            seconds=seconds,
            epoch_seconds=seconds,
            extrapolated=False,
            loss=loss,
        )
        # The test part first: its seconds are left out of what it took to get here, and both were spent before any line could be printed.
        for evaluation in reversed(self.evaluations):
            emit("evaluation", epoch=epoch + 1, **evaluation)
        reached = {evaluation["split"]: evaluation["ndcg@10"] for evaluation in self.evaluations}
        if self.benchmark.reach and reached[self.benchmark.reach_split] >= self.benchmark.reach:
            raise ReachedError


def rank(model: Recommender, data: PreparedData, cases: Cases, split: Split, max_length: int) -> dict[str, float]:
    """{"ndcg@10", "hr@10"} of a model over the whole catalogue."""
    measured = evaluate(model.score, data, cases, split, max_length).metrics([10])
    return {"ndcg@10": measured["ndcg@10"], "hr@10": measured["hr@10"]}


def open_data(folder: Path, scratch: Path) -> PreparedData:
    """A data set that recbench prepared, or bare arrays (see data.py) made into one."""
    if (folder / "manifest.json").is_file():
        return PreparedData.open(folder)
    bare = Sequences.open(folder)
    return PreparedData.from_arrays(scratch / "data", bare.items, bare.offsets, bare.timestamps)


def describe_data(data: PreparedData, split: Split, max_length: int) -> None:
    """The ``data`` line; without a training digest: our windows hold the same targets but are no list of prefixes."""
    sequences = Sequences.open(data.folder)
    histories = sequences.histories(split.test.target_positions, max_length)
    emit(
        "data",
        n_users=data.n_users,
        n_items=data.n_items,
        training_targets=training_windows(split.train_start, split.train_end, max_length).n_targets,
        validation_cases=len(split.validation),
        test_cases=len(split.test),
        test_digest=digest(histories, split.test.targets),
    )


def run(task: SASRecTask, data_folder: Path, scratch: Path) -> None:
    """Train and evaluate as the task says."""
    data = open_data(data_folder, scratch)
    split = make_split(data, LeaveOneOutConfig(seen_items=task.seen), None)
    describe_data(data, split, task.max_length)
    torch.manual_seed(task.seed)
    config = SASRecConfig(
        hidden_size=task.hidden_size,
        n_layers=task.n_layers,
        n_heads=task.n_heads,
        feedforward_size=task.feedforward_size,
        dropout=task.dropout,
    )
    model = SASRec(config, ModelContext(data.n_items, data.n_users, task.max_length))
    training = TrainingConfig(
        max_epochs=task.epochs,
        batch_size=task.batch_targets or TrainingConfig().batch_size,
        lr=task.learning_rate,
        patience=task.epochs,
        max_length=task.max_length,
    )
    folder = RunFolder(scratch)
    stopwatch = Stopwatch(task, folder, data, split)
    hardware = HardwareConfig(accelerator="cpu")
    train = TrainingData.of(data, split)
    with contextlib.suppress(ReachedError):
        fit(model, train, folder, training, hardware, task.seed, stopwatch.validate, "ndcg@10", stopwatch)
    emit_end()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.ours")
    parser.add_argument("--data", "--data-folder", type=Path, required=True, help="prepared data set")
    SASRecTask.add_arguments(parser)
    arguments = parser.parse_args()
    task = SASRecTask.of(arguments)
    if task.max_steps:
        parser.error("our epochs are short: they are never cut")
    torch.set_num_threads(task.threads)
    emit_machine(["torch", "numpy", "pytorch-lightning"], torch.get_num_threads())
    with tempfile.TemporaryDirectory(dir=bench_folder("scratch")) as scratch:
        run(task, arguments.data.resolve(), Path(scratch))


if __name__ == "__main__":
    main()
