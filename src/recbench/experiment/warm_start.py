"""``training.init_from=RUN``: a training that starts from the weights of a finished run of the same model, on other data or by other keys.

Rows of item tables go by the raw ids of the items: an item that the source knows takes its row, a new one keeps the row that was drawn for it. Every
other parameter is taken where name and shape are the same. What a model counts from its training data (graphs, time gaps, codes) is not taken: it is
that of the new data.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from recbench.config.run import RunConfig
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.data.item_numbers import item_numbers
from recbench.data.prepared import PreparedData
from recbench.experiment.context import Run
from recbench.models.base import Recommender
from recbench.models.registry import lookup
from recbench.models.weights import load_tensors
from recbench.report.slices import find_data

logger = logging.getLogger(__name__)

#: Runs that decide what a model's inputs mean, by role: weights that were learned over other codes or another table do not fit these.
SHARED = ("tokenizer", "item_table")


@dataclass(frozen=True)
class Taken:
    """What a warm start took. items_gone: items of the source alone; left: parameters that start as drawn, each with the reason."""

    items_known: int
    items_new: int
    items_gone: int
    tensors: int
    left: dict[str, str]

    def figures(self) -> dict[str, int]:
        """For metrics.json."""
        counts = {"items_known": self.items_known, "items_new": self.items_new, "items_gone": self.items_gone}
        return {
            f"init_from/{name}": n
            for name, n in {**counts, "tensors": self.tensors, "tensors_left": len(self.left)}.items()
        }

    def __str__(self) -> str:
        items = f"{self.items_known:,} of {self.items_known + self.items_new:,} items are known to it, {self.items_new:,} new ones start fresh"
        gone = f", {self.items_gone:,} of its items are gone" if self.items_gone else ""
        left = (
            f"; {len(self.left)} start fresh: {', '.join(f'{name} ({why})' for name, why in self.left.items())}"
            if self.left
            else ""
        )
        return f"{items}{gone}; {self.tensors} tensors taken{left}"


def source_folder(config: RunConfig) -> RunFolder | None:
    """The run that a training starts from, by folder or by its key in ``runs_dir``; None where it starts from drawn weights."""
    named = config.training.init_from
    if named is None or not lookup(config.model.name).model.trains_by_gradient:
        return None
    path = Path(named).expanduser()
    return RunFolder(path if path.is_dir() else config.runs_dir / named)


def check_source(config: RunConfig) -> None:
    """Raise UserError for an ``init_from`` that is no finished run of this model."""
    folder = source_folder(config)
    if folder is None:
        return
    said = f"training.init_from={config.training.init_from}"
    if not folder.finished:
        raise UserError(
            f"{said} holds no finished run (its state is '{folder.state}'); name a folder of runs/, or a key in runs_dir"
        )
    folder.check_whole()
    name = folder.config()["model"]["name"]
    if name != config.model.name:
        raise UserError(
            f"{said} is a run of '{name}', not of '{config.model.name}': only the same model takes its weights"
        )
    if folder.config().get("compression", {"name": "none"})["name"] != "none":
        raise UserError(f"{said} is a compressed run; name the run that it was made of")


def source_run(folder: RunFolder) -> Run:
    """A finished run with those that it stands on, as far as they are there: what a warm start has cost before it began."""
    metrics = folder.read("metrics.json")
    needed = {role: RunFolder(folder.path.parent / key) for role, key in metrics.get("dependencies", {}).items()}
    parts = {role: source_run(part) for role, part in needed.items() if part.finished}
    return Run(folder, RunConfig.from_dict(folder.config()), metrics, parts, reused=True)


def warm_start(model: Recommender, data: PreparedData, config: RunConfig, needed: Mapping[str, Run]) -> Taken:
    """Give a model that was just built the weights of its source. needed: the runs that it stands on.

    Raises UserError where the source stands on another tokenizer or item table, its data cannot be found, or nothing of it fits.
    """
    folder = source_folder(config)
    assert folder is not None
    _check_shared(folder, needed)
    source = data_of_run(folder, config)
    taken = take_weights(model, load_tensors(folder.weights), _matches(source, data))
    if not taken.tensors:
        raise UserError(
            f"training.init_from={config.training.init_from}: none of its tensors fits this model ({next(iter(taken.left.items()), '')}); "
            "give both the same sizes"
        )
    logger.info("init_from %s: %s", folder.key, taken)
    return taken


def _check_shared(folder: RunFolder, needed: Mapping[str, Run]) -> None:
    stands_on = folder.read("metrics.json").get("dependencies", {})
    for role in SHARED:
        ours = needed[role].folder.key if role in needed else None
        if stands_on.get(role) != ours:
            raise UserError(
                f"training.init_from: {folder.key} was trained over the {role} {stands_on.get(role)}, this run is over {ours}, so its weights mean "
                f"something else; start from a run with the same {role}"
            )


def data_of_run(folder: RunFolder, config: RunConfig) -> PreparedData:
    """The prepared data that a run was trained on, from this run's cache or its own; nothing is prepared anew. Raises UserError."""
    fingerprint = str(folder.read("provenance.json").get("data_fingerprint"))
    caches = dict.fromkeys((config.cache_dir, Path(folder.config()["cache_dir"])))
    found = find_data(fingerprint, list(caches))
    if found is None:
        raise UserError(
            f"training.init_from={folder.key}: the prepared data of that run are not in {' or '.join(map(str, caches))}, so its items cannot be told "
            "by their ids; run it once more there, or set cache_dir to where they are"
        )
    return found


@dataclass(frozen=True)
class Matches:
    """Items of the new data that the source knows: number ``theirs[i]`` there, ``ours[i]`` here, [M] int64 each. The rest are counts."""

    ours: Tensor
    theirs: Tensor
    n_ours: int
    n_theirs: int


def _matches(source: PreparedData, data: PreparedData) -> Matches:
    theirs = torch.from_numpy(item_numbers(source, data.item_table()["item"]))
    known = theirs > 0
    return Matches(known.nonzero()[:, 0] + 1, theirs[known], data.n_items, source.n_items)


@torch.no_grad()
def take_weights(model: nn.Module, state: Mapping[str, Tensor], items: Matches) -> Taken:
    """Copy the parameters that fit, in place. A parameter is by item where it has a row for each item and one for the pad on both sides; tables of
    positions, which a short catalogue could be taken for, are told by their name."""
    left, tensors = {}, 0
    for name, parameter in model.named_parameters():
        stored = state.get(name)
        if stored is None:
            if parameter.requires_grad:
                left[name] = "not in the source"
        elif _is_by_item(name, parameter, stored, items):
            parameter[items.ours] = stored[items.theirs].to(parameter)
            tensors += 1
        elif stored.shape == parameter.shape:
            parameter.copy_(stored)
            tensors += 1
        else:
            left[name] = f"{_shape(stored)} there, {_shape(parameter)} here"
    known = len(items.ours)
    return Taken(known, items.n_ours - known, items.n_theirs - known, tensors, left)


def _is_by_item(name: str, parameter: Tensor, stored: Tensor, items: Matches) -> bool:
    rows = (parameter.shape[:1], stored.shape[:1]) == ((items.n_ours + 1,), (items.n_theirs + 1,))
    return rows and parameter.shape[1:] == stored.shape[1:] and "position" not in name


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "one number"


def without_source(config: RunConfig) -> RunConfig:
    """What a run passes on to those that it needs: each starts as its own keys say."""
    return (
        config
        if config.training.init_from is None
        else replace(config, training=replace(config.training, init_from=None, keep_weights=False))
    )
