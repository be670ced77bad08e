"""What the metrics of lists add to a test: CPU seconds of ranking, and of all metrics of ``recbench.evaluation.lists`` on what it found.

    python -m benchmarks.list_metrics --users 22000 --items 12000

A SASRec with random weights of the usual size over random histories: the work does not depend on what the weights know. The vectors of texts and
the categories are those of the generated items, made once a data set and not counted, as in a run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from recbench.data.batches import Batch
from recbench.data.prepared import PreparedData
from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.split import make_split
from recbench.data.training import TrainingData
from recbench.evaluation.evaluate import evaluate
from recbench.evaluation.lists.families import FAMILIES, measure
from recbench.evaluation.lists.material import Items, blocks
from recbench.models.base import ModelContext
from recbench.models.sequential.sasrec import SASRec, SASRecConfig

CUTOFFS = [1, 5, 10, 20]
LENGTH, N_CATEGORIES, TEXT_WIDTH = 50, 240, 256


def random_data(folder: Path, n_users: int, n_items: int) -> PreparedData:
    """Histories of 5 to 13 events, as on Beauty; popular items more often."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(5, 14, n_users)
    items = 1 + (n_items * generator.random(int(lengths.sum())) ** 2).astype(np.int32)
    return PreparedData.from_arrays(folder, items, np.concatenate([[0], np.cumsum(lengths)]), n_items=n_items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=22_000)
    parser.add_argument("--items", type=int, default=12_000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = random_data(Path(folder), asked.users, asked.items)
        split = make_split(data, LeaveOneOutConfig(seen_items="mask"), None)
        model = SASRec(SASRecConfig(), ModelContext(data.n_items, data.n_users, LENGTH)).eval()

        def score(batch: Batch) -> torch.Tensor:
            return model.score(batch)

        started = time.process_time()
        found = evaluate(score, data, split.test, split, LENGTH, top_k=max(CUTOFFS))
        ranking = time.process_time() - started
        items = made_items(TrainingData.of(data, split).item_counts())
        started = time.process_time()
        measured = measure(list(FAMILIES), items, blocks(found, data, split.test, True), found, CUTOFFS)
        metrics = time.process_time() - started
    print(
        f"{asked.users:,} users, {asked.items:,} items: ranking {ranking:.1f} CPU s, {len(measured.figures())} figures of lists {metrics:.1f} CPU s"
    )
    print(f"share of the test: {metrics / (ranking + metrics):.1%}")


def made_items(counts: np.ndarray) -> Items:
    """Three categories and a text vector an item."""
    from scipy.sparse import csr_matrix

    generator = np.random.default_rng(1)
    n = len(counts) - 1
    rows = np.repeat(np.arange(1, n + 1), 3)
    categories = csr_matrix((np.ones(3 * n), (rows, generator.integers(0, N_CATEGORIES, 3 * n))), (n + 1, N_CATEGORIES))
    vectors = np.concatenate([np.zeros((1, TEXT_WIDTH)), generator.normal(size=(n, TEXT_WIDTH))]).astype(np.float32)
    vectors[1:] /= np.linalg.norm(vectors[1:], axis=1, keepdims=True)
    return Items(counts, categories.sign(), vectors)


if __name__ == "__main__":
    main()
