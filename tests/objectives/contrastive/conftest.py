"""Small models, the training windows of the tiny data, and a batch of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbench.data.batches import WindowDataset, training_windows
from recbench.data.item_text import item_texts
from recbench.data.training import TrainingData
from recbench.models.auxiliary import AuxiliaryConfig
from recbench.models.base import ModelContext
from recbench.models.registry import lookup, model_names

MAX_LENGTH = 20
#: Those that compare augmented or like histories; the others have tests of their own.
AUXILIARIES = ("cl4srec", "duorec", "mclrec")
#: Every model that offers auxiliaries; those that stand on another run are in test_end_to_end.
MODELS = [
    name
    for name in model_names()
    if issubclass(lookup(name).config, AuxiliaryConfig) and not lookup(name).model.dependencies(lookup(name).config())
]
SIZES = {"hidden_size": 16, "feedforward_size": 8, "n_layers": 2, "n_heads": 2, "head_size": 8, "state_size": 8}
OFF = {"dropout": 0.0, "embedding_dropout": 0.0}


def offers(model, auxiliary):
    """Whether a model can have an auxiliary: where items are the nodes of a graph, no single event can be hidden, and texts are apart."""
    if auxiliary in ("llm_cf", "rationale"):  # read a file of texts, and have tests of their own
        return False
    return auxiliary != "cl4srec" or lookup(model).model.looks_up_events


def pytest_generate_tests(metafunc):
    wanted = set(metafunc.fixturenames)
    if {"model_name", "name"} <= wanted:
        pairs = [(model, auxiliary) for model in MODELS for auxiliary in AUXILIARIES if offers(model, auxiliary)]
        metafunc.parametrize(("model_name", "name"), pairs)
    elif "model_name" in wanted:
        about_masks = metafunc.module.__name__.endswith("test_cl4srec")
        metafunc.parametrize("model_name", [name for name in MODELS if not about_masks or offers(name, "cl4srec")])


@pytest.fixture(scope="session")
def dataset(tiny_data, tiny_split):
    return WindowDataset(tiny_data, training_windows(tiny_split.train_start, tiny_split.train_end, MAX_LENGTH))


@pytest.fixture(scope="session")
def batch(dataset):
    """Twelve windows of different lengths."""
    made = dataset[np.arange(12)]
    assert (~made.mask).any()
    return made


@pytest.fixture(scope="session")
def build(tiny_data, tiny_split):
    """build("sasrec", seed=1, auxiliary=["duorec"]) -> a small model with weights of that seed."""

    def make(name="sasrec", seed=1, **keys):
        entry = lookup(name)
        known = entry.config.__dataclass_fields__
        sizes = {key: value for key, value in {**SIZES, **OFF}.items() if key in known}
        torch.manual_seed(seed)
        train = TrainingData.of(tiny_data, tiny_split)
        texts = item_texts(tiny_data)
        context = ModelContext(tiny_data.n_items, tiny_data.n_users, MAX_LENGTH, item_texts=texts, train=train)
        return entry.model(entry.config(**{**sizes, **keys}), context)

    return make
