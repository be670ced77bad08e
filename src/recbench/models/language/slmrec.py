"""SLMRec: the first layers of a language model over frozen item vectors, optionally distilled from a deeper one [arXiv 2405.17890, ICLR 2025].

What is different about this model: the items are not learned here. Their vectors come from a converged ID recommender (the run under
``model.item_table``) and stay frozen; a linear map carries them into the language model's width, another carries its state back,
and the score of an item is the product of that with its frozen vector. Depth is the one thing that varies: student and
teacher are the same model with other ``n_layers``. The distillation objective itself lives in ``recbench.objectives.distillation``.

Glossary (paper and released code -> here): E item table -> ``item_table``; ``input_proj`` -> ``item_to_state``; ``score`` head -> ``state_to_item``;
h^(k) -> ``hidden_states``; N layers -> ``config.n_layers``; instruction and response text -> ``config.prompt_prefix``, ``prompt_suffix``.

Where this deviates, and why:
- Trained at every position of a history, as every causal model here, where the released code has one target a user. All rivals in a table
  get the same targets. With a prompt that takes a copy of its suffix for every position (``recbench.nn.language.prompt``).
- Without the constant text prompt unless ``model.prompt=text``: it is the same for every user and costs more positions than the items do.
- Histories are padded on the right, where the released code has its pads between prompt and items, masked but counted as positions.
- Items have ids from 1; the pad is neither a class of the softmax nor ranked.
- The item table is trained to convergence with the full softmax; the released one was stopped after 50 epochs at lr 1e-4.
- A BERT-like encoder is read under a causal mask.

Shapes: B rows, L positions, H width of the language model, E width of the item vectors, V = n_items + 1.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_sizes
from recbench.models.language.frozen_part import learned_state, load_learned
from recbench.models.registry import register
from recbench.models.sequence_model import HasItemVectors, SequenceConfig, SequenceModel
from recbench.nn.language.backbone import Backbone, backbone_width, check_backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.losses.catalogue import CatalogueLoss
from recbench.nn.transformer.dropout import Dropout

logger = logging.getLogger(__name__)


@functools.cache
def _say_once(text: str) -> None:
    logger.warning(text)


def say_random_weights(config: SLMRecConfig) -> None:
    """Tell the person at the screen, once a process, that a model named after a language model has none in it."""
    if config.backbone == "tiny":
        _say_once(
            f"{config.name}: the backbone 'tiny' starts from random weights and has read no language; the one key that changes this is "
            "model.backbone=NAME_OR_FOLDER (`recbench language-model` makes a folder)"
        )


@dataclass
class SLMRecConfig(BackboneConfig, SequenceConfig):
    """Backbone keys, loss keys, and the run that gives the item vectors."""

    name: str = "slmrec"
    dropout: float = 0.1
    item_table: dict[str, Any] = field(default_factory=lambda: {"model": "sasrec"})


@register("slmrec", SLMRecConfig)
class SLMRec(SequenceModel):
    """See the head of this file. ``E4SRec`` is the same body with another head."""

    item_table: Tensor
    #: The width of ``queries``.
    item_width: int

    @classmethod
    def dependencies(cls, config: SLMRecConfig) -> dict[str, dict[str, Any]]:
        # Asked before anything is trained: a backbone that cannot be found must not cost an item table first.
        check_backbone(config)
        return {"item_table": config.item_table}

    @classmethod
    def state_width(cls, config: SLMRecConfig) -> int | None:
        return backbone_width(config)

    def __init__(self, config: SLMRecConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "n_layers", "tiny_hidden_size", "tiny_n_heads", "tiny_feedforward_size")
        source = context.dependencies.get("item_table")
        if source is None:
            table = torch.empty(0)  # a stored run brings its own, with its width
        elif isinstance(source, HasItemVectors):
            table = source.item_vectors().detach().clone()
        else:
            raise UserError(
                f"model.item_table.model={source.config.name} has no item vectors; name one that has, such as sasrec"
            )
        self.register_buffer("item_table", table)
        self.backbone = Backbone(config, context.max_length)
        self.width = self.backbone.width
        self.dropout = Dropout(config.dropout)
        self.loss = CatalogueLoss(config, context.n_items, context.item_counts)
        if source is not None:
            say_random_weights(config)
            self._build_ends(table.shape[1])

    def _build_ends(self, item_width: int) -> None:
        """The two maps that depend on the width of the item table."""
        self.item_width = item_width
        self.item_to_state = nn.Linear(item_width, self.width)
        self.state_to_item = nn.Linear(self.width, item_width, bias=False)

    def _inputs(self, batch: Batch) -> Tensor:
        return self.dropout(self.item_to_state(self.item_table[batch.items]))

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        return self.backbone(self._inputs(batch))

    def last_states(self, batch: Batch) -> list[Tensor]:
        return self.backbone.last(self._inputs(batch), batch.lengths)

    def score(self, batch: Batch) -> Tensor:
        # The same as from ``last_states``, without keeping the states of every layer of a deep backbone.
        last = self.backbone.last(self._inputs(batch), batch.lengths, inner=False)[-1]
        return self.queries(last) @ self.item_vectors().T

    def normed(self, states: Tensor) -> Tensor:
        return self.backbone.normed(states)

    def queries(self, states: Tensor) -> Tensor:
        return self.state_to_item(states)

    def item_vectors(self) -> Tensor:
        """[V, E]: the frozen table."""
        return self.item_table

    def stored_state(self) -> dict[str, Tensor]:
        return learned_state(self, self.backbone.frozen, {"item_table"})

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        self.item_table = state["item_table"].clone()
        if not hasattr(self, "item_to_state"):
            self._build_ends(self.item_table.shape[1])
        load_learned(self, state, self.stored_state())
