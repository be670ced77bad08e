"""Training data and histories written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbench.data.batches import Batch
from recbench.data.prepared import PreparedData
from recbench.data.training import TrainingData
from recbench.models.base import ModelContext
from recbench.models.registry import lookup


@pytest.fixture
def training_of(tmp_path):
    """training_of([[1, 2], [2]], n_items=3, times=[[0, 5], [9]]) -> TrainingData, all of it training."""

    def build(sequences, n_items=None, times=None):
        offsets = np.cumsum([0, *map(len, sequences)])
        times = (
            np.concatenate([np.asarray(t) for t in times])
            if times
            else np.concatenate([np.arange(len(s)) for s in sequences])
        )
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        data = PreparedData.from_arrays(folder, np.concatenate(sequences).astype(int), offsets, times, n_items=n_items)
        return TrainingData(data, data.offsets[:-1], data.offsets[1:])

    return build


@pytest.fixture
def fitted():
    """fitted("markov", training data, backoff=0.1) -> the fitted model."""

    def fit(name, train, **keys):
        entry = lookup(name)
        model = entry.model(entry.config(**keys), ModelContext(train.n_items, train.n_users, 50))
        model.fit_to(train)
        return model.eval()

    return fit


@pytest.fixture
def histories():
    """histories([1, 2], [3]) -> Batch of these histories, right-padded."""

    def build(*rows):
        lengths = torch.tensor([len(row) for row in rows])
        items = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        for row, events in zip(items, rows, strict=True):
            row[: len(events)] = torch.tensor(events, dtype=torch.int64)
        return Batch(items, torch.zeros_like(items), lengths, torch.arange(len(rows)))

    return build
