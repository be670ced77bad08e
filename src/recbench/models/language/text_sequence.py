"""What models share whose items are texts: a tower makes the vector of an item, a language model reads the history as those vectors.

Each item of a step is encoded once (``distinct_items``); to rank, the whole catalogue once (``TextTower.table``). Both halves may be trained.

Shapes: B rows, L positions, N positions with a target, H width of the tower, W width of the user side, V = n_items + 1, K drawn negatives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_sizes
from recbench.models.language.frozen_part import load_learned, trained_names
from recbench.models.sequence_model import SequenceConfig, SequenceModel
from recbench.nn.language.backbone import Backbone, backbone_width, check_backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.distinct_items import distinct_items, with_pad
from recbench.nn.language.text_tower import TextTower, TowerConfig, check_tower
from recbench.nn.transformer.dropout import Dropout


@dataclass
class TextSequenceConfig(TowerConfig, BackboneConfig, SequenceConfig):
    """Keys of the tower, of the backbone that reads the history, and of the loss."""

    dropout: float = 0.1


class TextSequenceModel(SequenceModel):
    """See the head of this file. A subclass gives ``item_vectors`` and its loss."""

    requires: ClassVar[frozenset[str]] = frozenset({"text"})
    looks_up_events: ClassVar[bool] = False  # there is no table of items in which one could be hidden

    @classmethod
    def dependencies(cls, config: Any) -> dict[str, dict[str, Any]]:
        check_backbone(config)
        check_tower(config, config)
        return {}

    @classmethod
    def state_width(cls, config: Any) -> int | None:
        return backbone_width(config)

    def __init__(self, config: Any, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "n_layers", "tiny_hidden_size", "tiny_n_heads", "tiny_feedforward_size")
        self.tower = TextTower(config, config, context.n_items, context.item_texts)
        self.backbone = Backbone(config, context.max_length)
        self.width = self.backbone.width
        self.dropout = Dropout(config.dropout)

    def into_state(self, vectors: Tensor) -> Tensor:
        """Vectors of the tower [..., H] -> what the backbone reads [..., W]."""
        return vectors

    def text_vectors_of(self, *ids: Tensor) -> list[Tensor]:
        """The tower's vectors [..., H] of items of any shapes, each different item encoded once; 0 of pads.

        Where no gradient is asked for they are rows of the kept table.
        """
        if not torch.is_grad_enabled() or not self.training:
            table = self.tower.table()
            return [table[part] for part in ids]
        items, places = distinct_items(*ids)
        vectors = with_pad(self.tower.encode(items))
        return [vectors[place] for place in places]

    def states_of(self, vectors: Tensor) -> list[Tensor]:
        """Vectors of a history [B, L, H] -> states after the input and each layer, [B, L, W] each."""
        return self.backbone(self.dropout(self.into_state(vectors)))

    def loss_of_step(self, batch: Batch, states: list[Tensor] | None = None) -> Tensor:
        """A loss over vectors that the tower makes in this step, which a subclass asks for (``_asked``) and compares (``_against``).

        states: of the histories, where they are there already, as under distillation; targets and others are encoded apart then.
        """
        targets, others = self._asked(batch)
        if states is not None:
            return self._against(states, batch, others, self.text_vectors_of(targets, others))
        history, *vectors = self.text_vectors_of(batch.items, targets, others)
        return self._against(self.states_of(history), batch, others, vectors)

    def _asked(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(the targets [N], the items that they are held against [K])."""
        raise NotImplementedError

    def _against(self, states: list[Tensor], batch: Batch, others: Tensor, vectors: list[Tensor]) -> Tensor:
        """The loss; ``vectors`` are the tower's of the targets and of the others."""
        raise NotImplementedError

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        return self.states_of(self.text_vectors_of(batch.items)[0])

    def last_states(self, batch: Batch) -> list[Tensor]:
        vectors = self.text_vectors_of(batch.items)[0]
        return self.backbone.last(self.dropout(self.into_state(vectors)), batch.lengths)

    def normed(self, states: Tensor) -> Tensor:
        return self.backbone.normed(states)

    def stored_state(self) -> dict[str, Tensor]:
        state, left_out = self.state_dict(), []
        for part, skipped in (("tower.", self.tower.as_read), ("backbone.", self.backbone.frozen)):
            if skipped:
                left_out.append(part)
        if not left_out:
            return state
        learned = trained_names(self) | {"tower.tokens"}
        return {name: value for name, value in state.items() if name in learned or not name.startswith(tuple(left_out))}

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        load_learned(self, state, self.stored_state())


def narrowed(width: int, wanted: int) -> nn.Module:
    """A linear map where the widths differ."""
    return nn.Identity() if width == wanted else nn.Linear(width, wanted)
