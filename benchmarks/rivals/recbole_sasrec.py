"""SASRec of RecBole 1.2.1 on our sequences; runs in RecBole's environment, prints the lines that ``task.py`` describes.

The training epoch and the evaluation are RecBole's own (``Trainer._train_epoch``, ``Trainer.evaluate``), as are the
data loader and the model. Three things differ from ``recbole.quick_start.run_recbole``, because that does not get to a
result on today's packages: ``train_neg_sample_args`` is None (with the default, the softmax loss is refused),
``load_col`` names the timestamp column (which is not loaded by default and without which a sequence cannot be built),
and the evaluation does not load the checkpoint again (``torch.load`` refuses RecBole's own file).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed

from benchmarks.data import digest
from benchmarks.rivals.progress import Patience, Ranked, TimedLoader, emit_epoch
from benchmarks.task import SASRecTask, emit, emit_end, emit_machine

#: RecBole's defaults.
EVALUATION_ROWS = 4096
BATCH_ROWS = 2048


def settings(task: SASRecTask, folder: Path) -> dict[str, Any]:
    """RecBole's keys for the task; whatever is not named stays at RecBole's default."""
    return {
        "data_path": str(folder),
        "use_gpu": False,
        "seed": task.seed,
        "show_progress": False,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": task.max_length,
        "hidden_size": task.hidden_size,
        "inner_size": task.feedforward_size,
        "n_layers": task.n_layers,
        "n_heads": task.n_heads,
        "hidden_dropout_prob": task.dropout,
        "attn_dropout_prob": task.dropout,
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "train_batch_size": task.batch_targets or BATCH_ROWS,
        "eval_batch_size": EVALUATION_ROWS,
        "learning_rate": task.learning_rate,
        "epochs": task.epochs,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "metrics": ["NDCG", "Hit"],
        "topk": [10],
        "valid_metric": "NDCG@10",
        "metric_decimal_place": 8,
    }


def dataset_digest(dataset: Any) -> str:
    """The digest (see data.py) of a RecBole split, in the item ids that we wrote."""
    tokens = np.array([0, *map(int, dataset.field2id_token["item_id"][1:])])
    features = dataset.inter_feat
    histories, lengths = features["item_id_list"].numpy(), features["item_length"].numpy()
    source = lengths[:, None] - 1 - np.arange(histories.shape[1])  # RecBole pads on the right, oldest event first
    latest_first = np.where(source >= 0, np.take_along_axis(histories, np.maximum(source, 0), axis=1), 0)
    return digest(tokens[latest_first], tokens[features["item_id"].numpy()])


def describe_data(dataset: Any, train: Any, validation: Any, test: Any) -> None:
    """The ``data`` line, with a digest of each split."""
    emit(
        "data",
        n_users=dataset.user_num - 1,
        n_items=dataset.item_num - 1,
        training_targets=len(train.dataset),
        validation_cases=len(validation.dataset),
        test_cases=len(test.dataset),
        training_digest=dataset_digest(train.dataset),
        validation_digest=dataset_digest(validation.dataset),
        test_digest=dataset_digest(test.dataset),
    )


def train_epoch(trainer: Trainer, loader: TimedLoader, epoch: int, task: SASRecTask) -> None:
    """One epoch, or its first steps, and its line."""
    rows, steps = len(loader.loader.dataset), len(loader.loader)
    started = time.perf_counter()
    loss = trainer._train_epoch(loader, epoch - 1, show_progress=False)
    seconds = time.perf_counter() - started
    made = len(loader.marks) - 1
    emit_epoch(epoch, loader.marks, seconds, steps, task.batch_targets or BATCH_ROWS, rows, loss / made)


def evaluate(trainer: Trainer, data: Any, split: str, epoch: int) -> Ranked:
    """Rank the whole catalogue for every user of a split; print the line."""
    started = time.perf_counter()
    result = trainer.evaluate(data, load_best_model=False, show_progress=False)
    seconds = time.perf_counter() - started
    ndcg, hit = float(result["ndcg@10"]), float(result["hit@10"])
    emit(
        "evaluation",
        epoch=epoch,
        split=split,
        seconds=seconds,
        cases=len(data.dataset),
        **{"ndcg@10": ndcg, "hr@10": hit},
    )
    return Ranked(ndcg, seconds)


def run(task: SASRecTask, folder: Path, name: str) -> None:
    """Train and evaluate as the task says."""
    config = Config(model="SASRec", dataset=name, config_dict=settings(task, folder))
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, validation, test = data_preparation(config, dataset)
    describe_data(dataset, train, validation, test)
    init_seed(config["seed"], config["reproducibility"])
    model = SASRec(config, train.dataset).to(config["device"])
    trainer = Trainer(config, model)
    trainer.eval_collector.data_collect(train)
    loader = TimedLoader(train, task.max_steps)
    emit("ready")
    patience = Patience(task)
    for epoch in range(1, task.epochs + 1):
        train_epoch(trainer, loader, epoch, task)
        reached = {
            split: evaluate(trainer, data, split, epoch) for split, data in (("validation", validation), ("test", test))
        }
        if patience.ends(reached):
            break
    emit_end()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.rivals.recbole_sasrec")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds NAME/NAME.inter")
    parser.add_argument("--name", required=True)
    parser.add_argument("--scratch", type=Path, required=True, help="where RecBole may write its logs")
    SASRecTask.add_arguments(parser)
    arguments = parser.parse_args()
    task = SASRecTask.of(arguments)
    if task.seen != "keep":
        sys.exit("RecBole's sequential evaluation never masks seen items: use --seen keep")
    sys.argv = sys.argv[:1]  # RecBole reads the command line by itself
    folder = arguments.data.resolve()
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.scratch)
    torch.set_num_threads(task.threads)
    emit_machine(["recbole", "torch", "numpy", "pandas", "setuptools"], torch.get_num_threads())
    run(task, folder, arguments.name)


if __name__ == "__main__":
    main()
