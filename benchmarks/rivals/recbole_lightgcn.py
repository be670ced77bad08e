"""LightGCN of RecBole 1.2.1 on pairs of users and items; runs in RecBole's environment, prints a line of JSON for each epoch.

The training epoch is RecBole's own (``Trainer._train_epoch``), as are its loader, its sampler of negatives and its model. What differs from its
defaults is the size: layers, width and events a step. Its adjacency is built by ``dok_matrix._update``, which newer SciPy does not have: where it
is missing it is put back here, in RecBole's sense. Evaluation is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import scipy.sparse
import torch


def settings(given: argparse.Namespace) -> dict[str, Any]:
    """RecBole's keys; whatever is not named stays at RecBole's default."""
    return {
        "data_path": str(given.data.resolve()),
        "use_gpu": False,
        "seed": 1,
        "show_progress": False,
        "load_col": {"inter": ["user_id", "item_id"]},
        "embedding_size": given.width,
        "n_layers": given.layers,
        "reg_weight": 1e-4,
        "train_batch_size": given.batch,
        "learning_rate": 1e-3,
        "eval_args": {"split": {"RS": [0.998, 0.001, 0.001]}, "order": "RO", "group_by": None, "mode": "full"},
        "metrics": ["Recall"],
        "topk": [20],
        "valid_metric": "Recall@20",
    }


def put_back_update() -> None:
    """``dok_matrix._update`` as RecBole calls it: entries by (row, column)."""
    kind: Any = scipy.sparse.dok_matrix
    if not hasattr(kind, "_update"):

        def update(matrix: Any, entries: Any) -> None:
            matrix._dict.update(entries)

        kind._update = update


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.rivals.recbole_lightgcn")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds NAME/NAME.inter")
    parser.add_argument("--name", required=True)
    parser.add_argument("--scratch", type=Path, required=True, help="where RecBole may write its logs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32_768)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=0, help="of an epoch; 0: all")
    given = parser.parse_args()
    sys.argv = sys.argv[:1]  # RecBole reads the command line by itself
    put_back_update()
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.general_recommender import LightGCN
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    from benchmarks.rivals.progress import TimedLoader

    options = settings(given)
    given.scratch.mkdir(parents=True, exist_ok=True)
    os.chdir(given.scratch)
    torch.set_num_threads(given.threads)
    config = Config(model="LightGCN", dataset=given.name, config_dict=options)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    model = LightGCN(config, train.dataset).to(config["device"])
    trainer = Trainer(config, model)
    loader = TimedLoader(train, given.steps)
    for epoch in range(given.epochs):
        clock, cpu = time.perf_counter(), time.process_time()
        loss = trainer._train_epoch(loader, epoch, show_progress=False)
        made = len(loader.marks) - 1
        line = {
            "epoch": epoch,
            "events": len(train.dataset),
            "steps": made,
            "of": len(train),
            "seconds": time.perf_counter() - clock,
            "cpu_seconds": time.process_time() - cpu,
            "loss": loss / made,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
