"""Keys and values of a decoder under a beam search: those of the history once a user, those of the beams side by side behind them.

All prefixes that a search ever extended stay where they were written, and a mask says which of them belong to whom. So nothing is copied from
beam to beam, and the history is never repeated.

    keys of a user   [history 0 .. M-1][first codes 0 .. W-1][second codes 0 .. W-1] ...
    a beam sees      its history, and one place in each block behind it

Shapes: B users, A heads of the keys, E width of one, M tokens of the history, J prefixes extended so far, W new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

#: Keys and values of a layer [B, A, M or J, E] each.
KeyValue = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Prefixes:
    """What a search has extended so far. Never changed in place, so it may be continued twice.

    layers: keys and values [B, A, J, E] · visible [B, W, J] bool: which of them belong to the prefixes that may be extended now.
    """

    layers: Sequence[KeyValue]
    visible: Tensor

    def extended(self, parent: Tensor) -> Tensor:
        """parent [B, W'] -> visible [B, W', J + W'] of the prefixes that have one more code behind those at ``parent``."""
        b, w = parent.shape
        seen = self.visible.gather(1, parent[..., None].expand(-1, -1, self.visible.shape[2]))
        own = torch.eye(w, dtype=torch.bool, device=parent.device).expand(b, -1, -1)
        return torch.cat([seen, own], dim=2)


class BeamLayer(DynamicLayer):
    """One layer's history, which is only read, and what the prefixes wrote; ``written`` is that with what the next pass adds."""

    def __init__(self, history: KeyValue, written: KeyValue | None) -> None:
        super().__init__()
        self.keys, self.values = history
        self.history, self.written = history, written
        self.dtype, self.device, self.is_initialized = history[0].dtype, history[0].device, True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """[B, A, W, E] of the new ones -> all that stand there now, [B, A, M + J + W, E]."""
        if self.written is not None:
            key_states = torch.cat([self.written[0], key_states], dim=-2)
            value_states = torch.cat([self.written[1], value_states], dim=-2)
        self.written = key_states, value_states
        keys, values = self.history
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)


def beam_cache(history: Sequence[KeyValue], prefixes: Prefixes) -> Cache:
    """The cache of one pass over new codes."""
    written: Sequence[KeyValue | None] = prefixes.layers or [None] * len(history)
    return Cache(layers=[BeamLayer(*pair) for pair in zip(history, written, strict=True)])


def written_by(cache: Cache) -> list[KeyValue]:
    """What the prefixes have in each layer after a pass with a ``beam_cache``."""
    layers: list[Any] = cache.layers
    return [layer.written for layer in layers]


def history_of(cache: Cache) -> list[KeyValue]:
    """Keys and values that a pass over histories left in an empty cache."""
    layers: list[Any] = cache.layers
    return [(layer.keys, layer.values) for layer in layers]
