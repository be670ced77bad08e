"""The small world in which a model is checked: generated data with strong structure, a few histories, small models, one short training each."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbench.config.run import RunConfig
from recbench.config.schemas import compose_model
from recbench.config.settings import EvaluationConfig, HardwareConfig, TrackingConfig, TrainingConfig
from recbench.data.batches import Batch, evaluation_batches
from recbench.data.features import item_features
from recbench.data.item_text import item_texts
from recbench.data.knowledge import knowledge
from recbench.data.protocol import HoldoutConfig, LeaveOneOutConfig
from recbench.data.sources.synthetic import SyntheticConfig
from recbench.data.split import Split, make_split, protocol_view
from recbench.data.store import PreparedData, prepare
from recbench.data.training import TrainingData
from recbench.data.training_rows import TRAINS_ON, training_rows
from recbench.experiment.context import RunContext
from recbench.experiment.run import run
from recbench.models.base import ModelContext, Recommender
from recbench.models.closed_form import ClosedForm
from recbench.models.laid_over import made, parts_of
from recbench.models.registry import lookup
from recbench.objectives.distillation.configs import DistillationConfig

#: Longest history that the checked models see.
MAX_LENGTH = 20
#: Rows of the batch of histories; the last three positions are left free, so that padding can be added.
N_HISTORIES = 12
#: Strong transitions and no popular items: a model that learns beats popularity within a second or two.
DATA: dict[str, Any] = {
    "n_users": 160,
    "n_items": 60,
    "min_length": 6,
    "mean_length": 14.0,
    "max_length": 30,
    "transition": 0.8,
    "second_order": 0.05,
    "cluster": 0.1,
    "n_successors": 2,
    "gap_dependence": 0.0,
    "n_clusters": 6,
    "popularity_skew": 0.2,
}
#: Of the training that has to beat popularity; short windows, because the last two events say all that can be known.
TRAINING: dict[str, Any] = {"lr": 1e-2, "batch_size": 256, "max_length": 10}


@dataclass(frozen=True)
class World:
    """data and its split · histories: N_HISTORIES test histories of different lengths ·
    rows: training batches of 24 rows, by what a model trains on."""

    data: PreparedData
    split: Split
    histories: Batch
    rows: dict[str, Batch]


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Where data and runs of the checks lie; gone when the process ends."""
    return tempfile.TemporaryDirectory(prefix="recbench-contract-")


@cache
def world() -> World:
    """The data of the checks, made once in a process."""
    data = prepare(SyntheticConfig(**DATA), Path(_folder().name) / "cache")
    split = make_split(data, LeaveOneOutConfig(), None)
    chosen = split.test.select(np.arange(N_HISTORIES))
    histories = next(batch for _, batch in evaluation_batches(data, chosen, MAX_LENGTH - 3, N_HISTORIES))
    train = TrainingData.of(data, split)
    rows = {kind: training_rows(train, kind, MAX_LENGTH)[np.arange(24)] for kind in TRAINS_ON}
    return World(data, split, histories, rows)


def build(
    name: str, keys: Mapping[str, Any], data: PreparedData, split: Split, with_dependencies: bool = True
) -> Recommender:
    """A model with these keys: with a learned state if it is computed, with fresh weights if it is trained.

    with_dependencies: False builds it as a stored run is opened, without the models that it was made from.
    """
    config, _ = compose_model({"model": name, **keys}, "model", "none")
    kind, train = lookup(name).model, TrainingData.of(data, split)
    parts = {}
    if with_dependencies:
        for role, wanted in parts_of(kind, config).items():
            inner = {key: value for key, value in wanted.items() if key != "training"}
            parts[role] = build(inner.pop("model"), inner, data, split)
    counts = torch.from_numpy(train.item_counts())
    torch.manual_seed(0)
    vectors = torch.nn.functional.pad(torch.randn(data.n_items, 12), (0, 0, 1, 0))
    beside = SyntheticConfig(**DATA)
    context = ModelContext(
        data.n_items,
        data.n_users,
        MAX_LENGTH,
        counts,
        parts,
        item_texts(data),
        train,
        0,
        vectors,
        features={kind: torch.from_numpy(table) for kind, table in item_features(data, beside, Path()).items()},
        knowledge=knowledge(data, beside, Path()),
    )
    model = made(kind, config, context)
    if isinstance(model, ClosedForm) and with_dependencies:
        model.fit_to(train)
    return model.eval()


def fresh(name: str, keys: Mapping[str, Any], with_dependencies: bool = True) -> Recommender:
    """``build`` in the world of the checks; a model of one's own, to train or to load weights into."""
    return build(name, keys, world().data, world().split, with_dependencies)


def shared(name: str, keys: Mapping[str, Any]) -> Recommender:
    """The one model of this name and these keys that all checks read and none changes."""
    return _shared(name, json.dumps(keys, sort_keys=True))


@cache
def _shared(name: str, keys: str) -> Recommender:
    return fresh(name, json.loads(keys)).requires_grad_(False)


def trained(name: str, keys: Mapping[str, Any], epochs: int, kept_back: bool = False) -> dict[str, Any]:
    """The figures of a short training and its test. Runs share a folder, and so what they both need.

    kept_back: of each user's items some are asked at once (``holdout``), in place of the last one.
    """
    return _trained(name, json.dumps(without_dropout(keys), sort_keys=True), epochs, kept_back)


@cache
def _kept_back() -> RunContext:
    view = protocol_view(world().data, HoldoutConfig())
    return RunContext(view, make_split(view, HoldoutConfig(), None))


@cache
def _trained(name: str, keys: str, epochs: int, kept_back: bool) -> dict[str, Any]:
    model, _ = compose_model({"model": name, **json.loads(keys)}, "model", "none")
    folder = Path(_folder().name)
    config = RunConfig(
        seed=1,
        model=model,
        data=SyntheticConfig(**DATA),
        protocol=HoldoutConfig() if kept_back else LeaveOneOutConfig(),
        distillation=DistillationConfig(),
        training=replace(TrainingConfig(**TRAINING), max_epochs=epochs, validate_every=epochs),
        evaluation=EvaluationConfig(),
        hardware=HardwareConfig(name="cpu", accelerator="cpu", threads=1),
        tracking=TrackingConfig(name="off", enabled=False),
        runs_dir=folder / "runs",
        cache_dir=folder / "cache",
    )
    config.check()
    return run(config, _kept_back() if kept_back else RunContext(world().data, world().split)).metrics


def without_dropout(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys with every dropout at 0: it protects a real training and only slows one of a few epochs."""
    return {
        key: without_dropout(value) if isinstance(value, Mapping) else 0.0 if key.endswith("dropout") else value
        for key, value in keys.items()
    }
