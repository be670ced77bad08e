"""The model of a finished run, kept whole and frozen within another model, so that the other's checkpoint needs no second one."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recbench.models.base import ModelContext, Recommender
from recbench.models.laid_over import made
from recbench.models.language.stored_config import config_of, packed
from recbench.models.registry import lookup


class KeptRun(nn.Module):
    """A frozen copy of ``source``; empty if it is None, until ``load_stored_state`` brings a model.

    It never trains: its dropout is off whatever the mode of the model around it. ``context`` is what it is built from again, with the training
    data that any stored run is opened with; any model that ranks can be kept, also one that was made from other runs, for a checkpoint is complete
    without them.
    """

    packed_config: Tensor

    def __init__(self, context: ModelContext, source: Recommender | None) -> None:
        super().__init__()
        # In a list, for it is no part of the state.
        self._context = [
            ModelContext(
                context.n_items,
                context.n_users,
                context.max_length,
                context.item_counts,
                item_texts=context.item_texts,
                train=context.train,
                seed=context.seed,
                fields=context.fields,
                seen_items=context.seen_items,
            )
        ]
        self.register_buffer("packed_config", torch.empty(0, dtype=torch.uint8))
        self.model: Recommender | None = None
        if source is not None:
            self._take(copy.deepcopy(source))

    def _take(self, model: Recommender) -> None:
        self.model = model.requires_grad_(False).eval()
        self.packed_config = packed(model.config)

    def train(self, mode: bool = True) -> KeptRun:
        return super().train(False)

    def stored_state(self) -> dict[str, Tensor]:
        """The model's config and what it stores itself."""
        held = {} if self.model is None else self.model.stored_state()
        return {"packed_config": self.packed_config, **{f"model.{name}": value for name, value in held.items()}}

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``stored_state`` gave. Raises KeyError or RuntimeError if it does not fit."""
        stored = config_of(state["packed_config"])
        if self.model is None or self.model.config != stored:
            self._take(made(lookup(stored.name).model, stored, self._context[0]))
        assert self.model is not None
        self.model.load_stored_state(
            {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
        )
        self.packed_config = state["packed_config"].clone()
        self.model.requires_grad_(False).eval()
