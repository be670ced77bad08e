"""What runs share that train an encoder of item texts: they lend its vectors to others (``item_vectors``), and rank by them too.

A subclass says which texts belong together in a step (``training_loss``) and what a history asks for (``asked``).

Shapes: B rows, L positions, N pairs of a step, T tokens, H width of the tower, E width of the vectors, V = n_items + 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelConfig, ModelContext, Recommender
from recbench.models.checks import check_counts
from recbench.models.language.frozen_part import load_learned, trained_names
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.text_tower import TextTower, TowerConfig, check_tower


@dataclass
class ItemEncoderConfig(TowerConfig, ModelConfig):
    """Keys of the tower; the three sizes are those of tower=tiny."""

    tiny_hidden_size: int = 128
    tiny_n_heads: int = 4
    tiny_feedforward_size: int = 256


class ItemEncoder(Recommender):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"text"})
    is_causal: ClassVar[bool] = False  # says nothing here: no states are lent

    @classmethod
    def dependencies(cls, config: Any) -> dict[str, dict[str, Any]]:
        check_tower(config, sizes_of(config))
        return {}

    def __init__(self, config: Any, context: ModelContext) -> None:
        super().__init__(config, context)
        check_tower(config, sizes_of(config))
        if config.tower_train == "frozen":
            raise UserError(
                f"'{config.name}' trains its tower: set model.tower_train=full or lora, or take model=text_table for vectors as they are"
            )
        self.tower = TextTower(config, sizes_of(config), context.n_items, context.item_texts)
        self.head: nn.Module = nn.Identity()

    def needs_whole_batch(self) -> str:
        return f"model={self.config.name} compares the texts of a batch with each other"

    def vectors_of(self, items: Tensor) -> Tensor:
        """items [N] -> [N, E] with a gradient, each different text read once."""
        return self.head(self.tower.encode(items))

    def item_vectors(self) -> Tensor:
        """[V, E]; row 0 is 0."""
        return (
            self.head(self.tower.table())
            * (torch.arange(self.n_items + 1, device=self.tower.tokens.device) > 0)[:, None]
        )

    def asked(self, batch: Batch) -> Tensor:
        """[B, E]: what the histories ask for, to be compared with item vectors by the cosine."""
        raise NotImplementedError

    def score(self, batch: Batch) -> Tensor:
        return F.normalize(self.asked(batch), dim=-1) @ F.normalize(self.item_vectors(), dim=-1).T

    def stored_state(self) -> dict[str, Tensor]:
        state = self.state_dict()
        if not self.tower.as_read:
            return state
        learned = trained_names(self) | {"tower.tokens"}
        return {name: value for name, value in state.items() if name in learned or not name.startswith("tower.")}

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        load_learned(self, state, self.stored_state())


def sizes_of(config: ItemEncoderConfig) -> BackboneConfig:
    """The sizes of tower=tiny as the tower takes them. Raises UserError for one below 1."""
    sizes = BackboneConfig(
        tiny_hidden_size=config.tiny_hidden_size,
        tiny_n_heads=config.tiny_n_heads,
        tiny_feedforward_size=config.tiny_feedforward_size,
    )
    check_counts(config, "tiny_hidden_size", "tiny_n_heads", "tiny_feedforward_size")
    return sizes
