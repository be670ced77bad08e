"""From a config to a model: untrained, or with the weights of a finished run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recbench.config.run import RunConfig
from recbench.data.features import item_features, shuffled_rows
from recbench.data.item_text import item_texts
from recbench.data.knowledge import knowledge
from recbench.data.store import PreparedData
from recbench.data.user_attributes import user_attributes
from recbench.data.user_text import user_texts
from recbench.experiment.context import Run, RunContext
from recbench.experiment.provenance import refuse_other_draws
from recbench.experiment.teacher import is_untrained
from recbench.models.base import ModelContext, Recommender
from recbench.models.laid_over import made, needs_of
from recbench.models.registry import lookup
from recbench.models.weights import load_weights
from recbench.nn.text.vectors import text_vectors

#: Added to the seed of a model that is never trained. (Of a seed torch's generator reads the lower 32 bits only.)
UNTRAINED_SEEDS = 2**31


def build_model(
    config: RunConfig, stage: RunContext, loaded: Mapping[str, Recommender], stored: bool = False
) -> Recommender:
    """The model of a config, untrained. stored: its weights will be read, so it needs no vectors and no graph that came with the items."""
    train = stage.train
    counts = torch.from_numpy(train.item_counts())
    model = lookup(config.model.name).model
    needs = needs_of(model, config.model)
    dealt = shuffled_rows(stage.data.n_items, config.data.text.shuffle)
    texts = item_texts(stage.data) if "text" in needs else None
    if texts is not None and dealt is not None:
        texts = [texts[item] for item in dealt]
    told = user_texts(stage.data, config.data, config.cache_dir, train.end) if "user_text" in needs else None
    vectors = None
    if "text_vectors" in needs and not stored:
        from recbench.experiment.device import device_of

        vectors = text_vectors(stage.data, config.data.text, config.cache_dir, device_of(config.hardware))
        if dealt is not None:
            vectors = vectors[dealt]
    needs = frozenset() if stored else needs
    context = ModelContext(
        stage.data.n_items,
        stage.data.n_users,
        config.training.max_length,
        counts,
        loaded,
        texts,
        train,
        config.seed,
        vectors,
        stage.split.seen_items,
        features_of(config, stage.data) if "features" in needs else {},
        knowledge(stage.data, config.data, config.cache_dir) if "knowledge" in needs else None,
        config.data.rewards,
        stage.split.fields,
        user_attributes=known_of_users(config, stage.data) if "user_attributes" in needs else None,
        user_texts=told,
    )
    # Weights that are never trained must not be those that a student of the same seed starts from.
    torch.manual_seed(config.seed + (UNTRAINED_SEEDS if is_untrained(config) else 0))
    return made(model, config.model, context)


def known_of_users(config: RunConfig, data: PreparedData) -> dict[str, list[str | None]]:
    """Attribute -> a word for each user, None where nothing is known."""
    table = user_attributes(data, config.data, config.cache_dir)
    return {name: table[name].to_list() for name in table.columns if name != "user"}


def features_of(config: RunConfig, data: PreparedData) -> dict[str, Tensor]:
    """Kind -> [n_items + 1, D]: what ``data.features`` asks for, dealt out anew if it says so."""
    found = {
        kind: torch.from_numpy(table) for kind, table in item_features(data, config.data, config.cache_dir).items()
    }
    if config.data.features.reads_titles:
        from recbench.experiment.device import device_of

        found["text"] = text_vectors(data, config.data.text, config.cache_dir, device_of(config.hardware))
    dealt = shuffled_rows(data.n_items, config.data.features.shuffle)
    return found if dealt is None else {kind: table[dealt] for kind, table in found.items()}


def builder(config: RunConfig, stage: RunContext) -> Callable[[Any, Mapping[str, Any]], Recommender]:
    """Builds models of other configs as those of this run are built."""
    return lambda model, needed: build_model(replace(config, model=model), stage, needed)


def load_model(finished: Run, stage: RunContext) -> Recommender:
    """The model of a finished run with its weights, in evaluation mode and frozen."""
    made_with = finished.folder.read("provenance.json").get("versions") or {}
    refuse_other_draws(finished.folder.key, finished.config.model, made_with)
    if finished.config.compression.name != "none":
        config = finished.config
        return config.compression.load(finished.folder.weights, config.model, builder(config, stage))
    model = build_model(finished.config, stage, {}, stored=True)
    load_weights(model, finished.folder.weights)
    return model.eval().requires_grad_(False)
