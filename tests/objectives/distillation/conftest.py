"""Small students and teachers with different weights, the training windows of the tiny data, and a batch of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recbench.data.batches import WindowDataset, training_windows
from recbench.data.training import TrainingData
from recbench.models.base import ModelContext
from recbench.models.registry import lookup

MAX_LENGTH = 20
SIZES = {
    "sasrec": {"hidden_size": 16, "n_heads": 2, "feedforward_size": 8, "n_layers": 2, "dropout": 0.0},
    "slmrec": {"tiny_hidden_size": 16, "tiny_n_heads": 2, "tiny_feedforward_size": 16, "n_layers": 2, "dropout": 0.0},
}
SIZES["e4srec"] = SIZES["slmrec"]


@pytest.fixture(scope="session")
def dataset(tiny_data, tiny_split):
    return WindowDataset(tiny_data, training_windows(tiny_split.train_start, tiny_split.train_end, MAX_LENGTH))


@pytest.fixture(scope="session")
def batch(dataset):
    """Ten windows of different lengths."""
    made = dataset[np.arange(10)]
    assert (~made.mask).any()
    return made


@pytest.fixture(scope="session")
def build(tiny_data, tiny_split):
    """build("slmrec", seed=1, n_layers=4) -> a model with weights of that seed, or computed from the tiny data."""
    bare = ModelContext(tiny_data.n_items, tiny_data.n_users, MAX_LENGTH)
    torch.manual_seed(5)
    table = lookup("sasrec").model(lookup("sasrec").config(hidden_size=12, n_heads=2, feedforward_size=8), bare)
    context = ModelContext(tiny_data.n_items, tiny_data.n_users, MAX_LENGTH, None, {"item_table": table})

    def make(name, seed=1, **keys):
        entry = lookup(name)
        torch.manual_seed(seed)
        model = entry.model(entry.config(**{**SIZES.get(name, {}), **keys}), context)
        if not entry.model.trains_by_gradient:
            model.fit_to(TrainingData.of(tiny_data, tiny_split))
        return model

    return make


@pytest.fixture(scope="session")
def build_teacher(build):
    """As ``build``, with other weights, in evaluation mode and frozen."""
    return lambda name, seed=2, **keys: build(name, seed, **keys).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def terms_of():
    """terms_of(objective, student, teacher, batch) -> the terms, with what is read of the teacher read as in training."""

    def terms(objective, student, teacher, batch):
        with torch.no_grad():
            taught = objective.read(teacher, batch)
        return objective.terms(student, student.hidden_states(batch), taught, batch)

    return terms


@pytest.fixture(scope="session")
def by_position():
    """by_position(batch) -> (row, position) of every real position, in the order in which answers stand."""
    return lambda batch: [(b, i) for b in range(len(batch)) for i in range(int(batch.lengths[b]))]


@pytest.fixture
def few_values(monkeypatch):
    """Let a chunk hold so few values that every loop over chunks runs several times."""
    monkeypatch.setattr("recbench.nn.losses.catalogue.CHUNK_VALUES", 700)
    return SimpleNamespace(values=700)
