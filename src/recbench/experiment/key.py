"""The law of run keys, all of it: what enters the key of a run, and how the key is made.

A key is a hash of values: what changes the result, the data's fingerprint, and the keys of the runs that are needed. No module path, no
machine and no place enters. Which fields of a config enter is said at each field (``core/key_fields``).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbench.config.run import RunConfig
from recbench.core.key_fields import key_values
from recbench.data.attack import AttackConfig
from recbench.data.download import hash_file
from recbench.data.features import features_key
from recbench.data.keep_config import KINDS
from recbench.data.kept import kept_key
from recbench.data.knowledge import knowledge_key
from recbench.data.user_attributes import users_key
from recbench.data.user_text import user_text_key
from recbench.experiment.context import RunContext
from recbench.experiment.dependencies import dependency_configs
from recbench.models.laid_over import needs_of
from recbench.models.registry import lookup
from recbench.nn.language.conversion import identity
from recbench.nn.language.model_content import DECISIVE
from recbench.nn.language.pretrained import files_of
from recbench.nn.text.vectors import text_key

#: Part of every key. Raise it when a change of code changes results of the same config, so that old runs are not taken for new ones.
RESULTS_VERSION = 1
#: Fields of a model that name weights which it reads.
READ_FROM = ("backbone", "tower")


def run_key(config: RunConfig, stage: RunContext) -> str:
    """The key of a run: everything that changes its result, its data, and the keys of what it stands on."""
    model = lookup(config.model.name).model
    trained = model.trains_by_gradient
    training: dict[str, Any] = key_values(config.training)
    if config.training.init_from is not None:
        training["init_from"] = os.path.basename(os.path.abspath(config.training.init_from))  # that run's key
    parts = {
        "model": model_values(config),
        "protocol": stage.split.protocol_id,
        "split": stage.split.split_hash,
        "data": stage.data.fingerprint,
        "cutoffs": sorted(config.evaluation.cutoffs),
        # A computed model knows no learning rate, and most know no seed: it is the same run under all of them.
        "training": training if trained else {"max_length": config.training.max_length},
        "seed": config.seed if model.uses_seed else None,
        "distillation": key_values(config.distillation) if config.distillation.name != "none" else None,
        "dependencies": {name: run_key(part, stage.of_part(part)) for name, part in dependency_configs(config).items()},
    }
    if config.protocol.asks_clicks:
        parts["cutoffs"] = None
    elif not model.ranks:
        # It sees all training events whatever the length of a history, and no cutoff: one run for whoever needs it.
        parts |= {"training": None, "cutoffs": None}
    # Said only where there is one, so that the runs of before keep their keys.
    if trained and config.evaluation.monitor != config.evaluation.usual_monitor:
        parts["monitor"] = config.evaluation.monitor  # it decides which epoch is kept
    if config.compression.name != "none":
        parts["compression"] = key_values(config.compression)
    needs = needs_of(model, config.model)
    if config.attack != AttackConfig() and model.ranks:
        parts["attack"] = key_values(config.attack)
    if "text_vectors" in needs:
        parts["text"] = text_key(config.data.text, config.cache_dir)
    if config.data.text.shuffle is not None and needs & {"text", "text_vectors"}:
        parts["text_shuffle"] = config.data.text.shuffle
    parts |= kept_key(stage.data.manifest, needs & KINDS.keys())
    return make_key(config.model.name, parts | beside_parts(config))


def beside_parts(config: RunConfig) -> dict[str, Any]:
    """What a model reads beside the events and texts, by the content of the files: vectors of items, a knowledge graph, attributes of users."""
    needs, parts = needs_of(lookup(config.model.name).model, config.model), {}
    if "features" in needs:
        parts["features"] = features_key(config.data, config.cache_dir)
        if config.data.features.reads_titles:
            parts["features"] |= {"titles": text_key(config.data.text, config.cache_dir)}
    if "knowledge" in needs:
        parts["knowledge"] = knowledge_key(config.data, config.cache_dir)
    if config.data.rewards and (lookup(config.model.name).model.ranks or "behaviours" in needs):
        parts["rewards"] = dict(config.data.rewards)
    if "user_attributes" in needs:
        parts["users"] = users_key(config.data, config.cache_dir)
    if "user_text" in needs:
        parts["user_text"] = user_text_key(config.data, config.cache_dir)
    return parts


def model_values(config: RunConfig) -> dict[str, Any]:
    """The model's keys. A language model in a file or a folder stands there by its content, not by the place where it lies."""
    values = key_values(config.model)
    for field in READ_FROM:
        if isinstance(values.get(field), str):
            values[field] = _read_from(values[field], config.cache_dir)
    return values


def _read_from(name: str, cache_dir: Path) -> str | dict[str, str]:
    """What stands for the weights of this name in a key: their content if they lie here, else the name."""

    def file_hash(path: Path) -> str:
        return str(hash_file(path, cache_dir)["sha256"])

    known, folder = identity(name, file_hash), Path(name).expanduser()
    if known != name or name == "tiny" or not folder.is_dir():
        return known
    return {path.name: file_hash(path) for path in files_of(folder, DECISIVE)}


def make_key(name: str, parts: Mapping[str, Any]) -> str:
    """A readable prefix and a hash of everything that changes the result, such as ``sasrec-3f9c2b71a0d4``."""
    text = json.dumps({"results_version": RESULTS_VERSION, **parts}, sort_keys=True, default=str)
    return f"{name}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
