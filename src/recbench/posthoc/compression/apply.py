"""From the model of a finished run to the stored tensors of a compressed one, and from those to a model again.

A compressed run is complete by itself: adapters are merged into the weights that they adapt, and a frozen pretrained part, which other
checkpoints leave out, is stored with the rest. To load one, the same model is built with random weights, changed in the same way, and
filled with what was stored.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from recbench.models.base import Recommender
from recbench.models.laid_over import parts_of
from recbench.models.registry import lookup
from recbench.models.weights import load_tensors, save_tensors
from recbench.posthoc.compression.early_exit import lower_part
from recbench.posthoc.compression.packed import pack, unpack

logger = logging.getLogger(__name__)

#: (model config, what stands for its dependencies, by role) -> the model, with weights as drawn.
Build = Callable[[Any, Mapping[str, Any]], Recommender]


class Compression(Protocol):
    """What is asked of a compression option; ``configs.py`` has them."""

    @property
    def label(self) -> str: ...
    @property
    def takes_weights(self) -> bool: ...
    @property
    def depth(self) -> int | None: ...
    def change(self, model: Recommender) -> None: ...


def make_compressed(
    original: Recommender, compression: Compression, path: Path, build: Build
) -> tuple[Recommender, dict[str, float]]:
    """Store the compressed form of a finished model; returns the model as it was stored, and figures on the way there.

    ``original`` is changed and not to be used any further. Raises UserError for a model to which this cannot be done.
    """
    logger.info("compressing: %s", compression.label)
    started = time.perf_counter()
    config = original.config
    save_tensors(compress(original, compression, build), path)
    seconds = time.perf_counter() - started
    # What is tested is what a later reader of the file gets.
    model = load_compressed(path, config, compression, build)
    not_zero = sum(int(torch.count_nonzero(parameter)) for parameter in model.parameters())
    return model, {"cost/compression_seconds": seconds, "cost/parameters_nonzero": not_zero}


def load_compressed(path: Path, model: Any, compression: Compression, build: Build) -> Recommender:
    """The model of a stored compressed run, in evaluation mode and frozen. model: config of the original.

    Raises UserError if the file is damaged, RuntimeError if names or shapes differ.
    """
    stored = load_tensors(path)
    made = skeleton(stored, model, compression, build)
    shapes = {name: tensor.shape for name, tensor in made.state_dict().items()}
    # Assigned rather than copied: the stored tensors bring their type with them.
    made.load_state_dict(unpack(stored, shapes), assign=True)
    return made.eval().requires_grad_(False)


def compress(original: Recommender, compression: Compression, build: Build) -> dict[str, Tensor]:
    """The tensors that a compressed run stores, by name. ``original`` is changed."""
    merge_adapters(original)
    if compression.depth is not None:
        state = original.state_dict()
        return lower_part(state, skeleton(state, original.config, compression, build))
    compression.change(original)
    state = original.state_dict()
    return pack(state, linear_weights(original)) if compression.takes_weights else state


def skeleton(stored: Mapping[str, Tensor], model: Any, compression: Compression, build: Build) -> Recommender:
    """A compressed model with the right shapes and the wrong weights. Raises UserError for a model to which this cannot be done.

    stored: tensors by name, for the shapes of what the model once took from other runs; {} where only the answer matters.
    """
    changes: dict[str, Any] = {"init": "random", "lora_rank": 0, "precision": "float32"}
    if compression.depth is not None:
        changes["n_layers"] = compression.depth
    known = {field.name for field in fields(model)}
    config = replace(model, **{name: value for name, value in changes.items() if name in known})
    made = build(config, stand_ins(model, stored))
    if getattr(model, "precision", "float32") == "bfloat16":
        # Of weights that are not frozen no config asks for it; these were frozen in the original, and keep what they had there.
        backbone: Any = made.backbone
        backbone.dtype = torch.bfloat16
        backbone.model.to(torch.bfloat16)
    compression.change(made)
    return made


def merge_adapters(model: nn.Module) -> None:
    """Add the low-rank adapters of peft to the weights that they adapt, in place; the model computes what it computed."""
    adapted = [path for path, module in model.named_modules() if hasattr(module, "merge_and_unload")]
    # peft wraps twice; the outer one undoes both.
    for path in (path for path in adapted if not any(path.startswith(f"{outer}.") for outer in adapted)):
        owner, _, leaf = path.rpartition(".")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # what transformers says to peft is nothing to the user
            plain: Any = model.get_submodule(path).merge_and_unload()  # type: ignore[operator]
        setattr(model.get_submodule(owner), leaf, plain)


def linear_weights(model: nn.Module) -> set[str]:
    """Paths of the weights of all linear layers."""
    return {f"{path}.weight" for path, module in model.named_modules() if isinstance(module, nn.Linear)}


@dataclass(frozen=True)
class ItemVectors:
    """Stands for a run that lent its item vectors, when only their shape matters any more."""

    shape: tuple[int, int]

    def item_vectors(self) -> Tensor:
        return torch.zeros(self.shape)


def stand_ins(model: Any, stored: Mapping[str, Tensor]) -> dict[str, ItemVectors]:
    """For each run that a model once took item vectors from: some of the same shape.

    A model keeps what it takes under the name of the role, in 8 bits under NAME.values.
    """
    roles = parts_of(lookup(model.name).model, model)
    found = {role: stored.get(role, stored.get(f"{role}.values")) for role in roles}
    return {role: ItemVectors(tuple(tensor.shape)) for role, tensor in found.items() if tensor is not None}  # type: ignore[arg-type]
