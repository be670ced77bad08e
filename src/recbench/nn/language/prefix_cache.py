"""Keys and values of a constant prefix, computed for one row and read by every row of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer


class PrefixLayer(DynamicLayer):
    """One layer's keys and values [n, heads, P, head width]. Nothing is added to them, so one object serves all batches.

    n is 1, or the number of streams of a backbone that has several; then rows stand stream by stream.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = self.ready = keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """[B, heads, Q, width] of the rows -> the same behind the prefix, [B, heads, P + Q, width]."""
        copies = len(key_states) // len(self.ready[0])
        keys, values = (
            ready.expand(copies, -1, -1, -1) if len(ready) == 1 else ready.repeat_interleave(copies, 0)
            for ready in self.ready
        )
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)


def empty_cache() -> Cache:
    """A cache that takes up the keys and values of one pass."""
    return DynamicCache()


def read_only(filled: Cache) -> Cache:
    """What a pass left in an ``empty_cache``, to be read by others."""
    layers: list[Any] = filled.layers
    return Cache(layers=[PrefixLayer(layer.keys, layer.values) for layer in layers])


def cache_of(read: Callable[[Tensor, Any], Any], vectors: Tensor) -> Cache:
    """Keys and values of ``vectors`` in every layer, to be read by others. read: takes vectors, and a cache that it fills."""
    cache = empty_cache()
    read(vectors, cache)
    return read_only(cache)
