"""Adapters added to the weights that they adapt, while nothing is learned: a layer is then one product rather than three and a sum.

The frozen weights themselves are put aside for as long as it lasts and put back as they were, so nothing is lost to rounding. States differ from
those of separate products in their last digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

#: The name that peft gives to an adapter that was not named.
ADAPTER = "default"
#: Bytes of weights that are held twice at the most; a larger model is left as it is.
MOST_BYTES = 1 << 30


@torch.no_grad()
def merged_weights(model: nn.Module) -> list[tuple[Any, Tensor]]:
    """(adapted layer, its weight with the adapter in it), for the layers whose weights are float32: others would lose the adapter's digits.

    Empty where they would need more than MOST_BYTES.
    """
    from peft.tuners.lora import LoraLayer

    layers: list[Any] = [module for module in model.modules() if isinstance(module, LoraLayer) and _is_plain(module)]
    if sum(layer.get_base_layer().weight.nbytes for layer in layers) > MOST_BYTES:
        return []
    return [(layer, layer.get_base_layer().weight + layer.get_delta_weight(ADAPTER)) for layer in layers]


def _is_plain(layer: Any) -> bool:
    weight = getattr(layer.get_base_layer(), "weight", None)
    return (
        isinstance(weight, Tensor)
        and weight.dtype == torch.float32
        and list(layer.active_adapters) == [ADAPTER]
        and not layer.use_dora.get(ADAPTER, False)
        and not layer.merged
    )


@contextmanager
def in_place(merged: Sequence[tuple[Any, Tensor]]) -> Iterator[None]:
    """While this is open, the layers compute with these weights alone."""
    before = [layer.get_base_layer().weight.data for layer, _ in merged]
    try:
        for layer, weight in merged:
            layer.get_base_layer().weight.data = weight
            layer.merged_adapters.append(ADAPTER)
        yield
    finally:
        for (layer, _), weight in zip(merged, before, strict=True):
            layer.get_base_layer().weight.data = weight
            layer.merged_adapters.clear()
