"""SASRec of RecTools 0.19 on our sequences; runs in RecTools' environment, prints the lines that ``task.py`` describes.

Data set, data preparation, model, training (``SASRecModel.fit_partial``, an epoch a call) and lists with their metrics (``recommend``, ``NDCG``,
``HitRate``) are RecTools' own, all at its defaults but for what the task says. What is its own way, and differs from the other systems:
- A row is a user, padded to the longest history; so a batch of T targets is a batch of as many users as have T targets on average.
- Of a longer history only the last ``max_length`` + 1 events are trained on: the targets before them are left out, and reported.
- Its feed-forward layers are as wide as the model; no key says otherwise, so ``feedforward_size`` is not followed.
- It knows the items of the training part only: others are left out of histories and lists, and a case whose target is one counts as missed.
``fit_partial`` prepares the data again at each call, which a single ``fit`` would not: that time is reported as left out.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import NDCG, HitRate, calc_metrics
from rectools.models import SASRecModel

from benchmarks.data import Sequences, digest
from benchmarks.rivals.progress import Patience, Ranked, emit_epoch
from benchmarks.task import SASRecTask, emit, emit_end, emit_machine

#: RecTools' default.
BATCH_USERS = 128


class Marks(Callback):
    """Notes the moments of an epoch's start and of the end of each step, and the losses of the steps."""

    def __init__(self) -> None:
        self.marks: list[float] = []
        self.losses: list[torch.Tensor] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Marks:
        return self  # RecTools trains with a copy of its trainer

    def on_train_epoch_start(self, trainer: Trainer, module: Any) -> None:
        if not self.marks:
            emit("ready")
        self.marks, self.losses = [time.perf_counter()], []

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        self.marks.append(time.perf_counter())
        self.losses.append(outputs["loss"].detach())


def interactions(sequences: Sequences, before: int) -> pd.DataFrame:
    """RecTools' table of all events but each user's last ``before``; the time of an event is its number within its user, in days."""
    length = np.diff(sequences.offsets)
    user = np.repeat(np.arange(sequences.n_users), length)
    number = np.arange(len(user)) - sequences.offsets[user]
    kept = number < length[user] - before
    return pd.DataFrame(
        {
            Columns.User: user[kept],
            Columns.Item: sequences.items[kept],
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2000-01-01") + pd.to_timedelta(number[kept], unit="D"),
        }
    )


class Bench:
    """The data of a task as RecTools holds them, and the model."""

    def __init__(self, task: SASRecTask, sequences: Sequences) -> None:
        self.task, self.sequences = task, sequences
        self.users = np.arange(sequences.n_users)
        self.train = Dataset.construct(interactions(sequences, 2))
        self.histories = {"validation": self.train, "test": Dataset.construct(interactions(sequences, 1))}
        per_user = sequences.counts()["training_targets"] / sequences.n_users
        self.batch_users = round(task.batch_targets / per_user) if task.batch_targets else BATCH_USERS
        self.steps = -(-sequences.n_users // self.batch_users)
        self.marks = Marks()
        # ``epochs`` is the exact number of ``fit``; ``fit_partial`` says its own.
        self.model = SASRecModel(
            n_factors=task.hidden_size,
            n_blocks=task.n_layers,
            n_heads=task.n_heads,
            dropout_rate=task.dropout,
            session_max_len=task.max_length,
            batch_size=self.batch_users,
            loss="softmax",
            lr=task.learning_rate,
            recommend_torch_device="cpu",
            get_trainer_func=self.trainer,
        )

    def trainer(self) -> Trainer:
        """RecTools' own trainer, with marks, and cut where asked for."""
        return Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=False,
            limit_train_batches=self.task.max_steps or None,
            callbacks=[self.marks],
        )

    def describe(self) -> None:
        """The ``data`` line. The digest is of the histories that RecTools' data set holds, in the order of its own sort."""
        counts, known = self.sequences.counts(), len(self.train.item_id_map.external_ids)
        events = np.diff(self.sequences.offsets) - 2
        trained = int(np.minimum(events - 1, self.task.max_length).sum())
        emit(
            "data",
            n_users=len(self.train.user_id_map.external_ids),
            n_items=known,
            unknown_items=counts["n_items"] - known,
            training_targets=trained,
            targets_left_out=counts["training_targets"] - trained,
            validation_cases=len(self.targets("validation")),
            test_cases=len(self.targets("test")),
            test_digest=self.digest_of("test"),
        )

    def digest_of(self, split: str) -> str:
        held = self.histories[split].get_raw_interactions().sort_values([Columns.User, Columns.Datetime], kind="stable")
        user, item = held[Columns.User].to_numpy(), held[Columns.Item].to_numpy()
        end = np.searchsorted(user, self.users, side="right")
        start = np.searchsorted(user, self.users)
        source = end[:, None] - 1 - np.arange(self.task.max_length)
        latest_first = np.where(source >= start[:, None], item[np.maximum(source, 0)], 0)
        return digest(latest_first, self.targets(split)[Columns.Item].to_numpy())

    def targets(self, split: str) -> pd.DataFrame:
        position = self.sequences.target_positions(split)
        return pd.DataFrame({Columns.User: self.users, Columns.Item: self.sequences.items[position]})

    def epoch(self, number: int) -> None:
        """One epoch, or its first steps, and its line."""
        started = time.perf_counter()
        self.model.fit_partial(self.train, min_epochs=1, max_epochs=1)
        ended, marks = time.perf_counter(), self.marks.marks
        seconds = marks[-1] - marks[0]
        loss = float(torch.stack(self.marks.losses).mean())
        again = ended - started - seconds if number > 1 else 0.0  # the first preparation is everybody's
        emit_epoch(number, marks, seconds, self.steps, self.batch_users, len(self.users), loss, left_out=again)

    def evaluate(self, split: str, epoch: int) -> Ranked:
        """Rank the whole catalogue for every user of a split; print the line."""
        started = time.perf_counter()
        mask = self.task.seen == "mask"
        lists = self.model.recommend(
            self.users, self.histories[split], k=10, filter_viewed=mask, on_unsupported_targets="ignore"
        )
        # By default RecTools divides by what ten hits would gain; with one target a user that is not NDCG@10 as others have it.
        metrics = {"ndcg@10": NDCG(k=10, divide_by_achievable=True), "hr@10": HitRate(k=10)}
        found = calc_metrics(metrics, reco=lists, interactions=self.targets(split))
        seconds = time.perf_counter() - started
        emit("evaluation", epoch=epoch, split=split, seconds=seconds, cases=len(self.users), **found)
        return Ranked(float(found["ndcg@10"]), seconds)


def run(task: SASRecTask, folder: Path) -> None:
    """Train and evaluate as the task says."""
    seed_everything(task.seed)
    bench = Bench(task, Sequences.open(folder))
    bench.describe()
    patience = Patience(task)
    for epoch in range(1, task.epochs + 1):
        bench.epoch(epoch)
        if patience.ends({split: bench.evaluate(split, epoch) for split in ("validation", "test")}):
            break
    emit_end()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.rivals.rectools_sasrec")
    parser.add_argument("--data", type=Path, required=True, help="folder of items.npy, offsets.npy, timestamps.npy")
    parser.add_argument("--scratch", type=Path, required=True, help="working folder")
    SASRecTask.add_arguments(parser)
    arguments = parser.parse_args()
    task = SASRecTask.of(arguments)
    folder = arguments.data.resolve()
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.scratch)
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    torch.set_num_threads(task.threads)
    emit_machine(["RecTools", "torch", "numpy", "pandas", "pytorch-lightning"], torch.get_num_threads())
    run(task, folder)


if __name__ == "__main__":
    main()
