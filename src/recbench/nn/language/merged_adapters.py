"""Adapters that cost little while nothing is learned: a part of the weights where those are float32, in the weights' precision where it is bfloat16.

In float32 a layer is then one product rather than three and a sum. The frozen weights themselves are put aside for as long as it lasts and put back
as they were, so nothing is lost to rounding. A weight in bfloat16 would lose the adapter's digits. There the adapter stays two narrow products,
rounded to bfloat16 and added within the second one; two products in float32 spend more time on widening the states than on multiplying them.
States differ from those of training's form in their last digits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

#: The name that peft gives to an adapter that was not named.
ADAPTER = "default"
#: Bytes of weights that are held twice at the most; a larger model is left as it is.
MOST_BYTES = 1 << 30


@dataclass
class ReadyAdapters:
    """What adapted layers compute with while nothing is learned."""

    #: (layer, its weight with the adapter in it), of weights in float32.
    merged: list[tuple[Any, Tensor]]
    #: (layer, its map [..., in] -> [..., out]), of weights in bfloat16.
    narrow: list[tuple[Any, Callable[[Tensor], Tensor]]]


@torch.no_grad()
def ready_adapters(model: nn.Module) -> ReadyAdapters:
    """Of the layers of a model that have a plain adapter; ``merged`` is empty where it would need more than MOST_BYTES."""
    from peft.tuners.lora import LoraLayer

    plain: list[Any] = [module for module in model.modules() if isinstance(module, LoraLayer) and _is_plain(module)]
    wide = [layer for layer in plain if layer.get_base_layer().weight.dtype == torch.float32]
    if sum(layer.get_base_layer().weight.nbytes for layer in wide) > MOST_BYTES:
        wide = []
    narrow = [layer for layer in plain if layer.get_base_layer().weight.dtype == torch.bfloat16]
    return ReadyAdapters(
        [(layer, layer.get_base_layer().weight + layer.get_delta_weight(ADAPTER)) for layer in wide],
        [(layer, _in_bfloat16(layer)) for layer in narrow],
    )


def _is_plain(layer: Any) -> bool:
    return (
        isinstance(getattr(layer.get_base_layer(), "weight", None), Tensor)
        and list(layer.active_adapters) == [ADAPTER]
        and not layer.use_dora.get(ADAPTER, False)
        and not layer.merged
    )


def _in_bfloat16(layer: Any) -> Callable[[Tensor], Tensor]:
    down = layer.lora_A[ADAPTER].weight.bfloat16().T
    up = (layer.lora_B[ADAPTER].weight * layer.scaling[ADAPTER]).bfloat16().T
    return functools.partial(_adapted, layer.get_base_layer(), down, up)


def _adapted(base: nn.Module, down: Tensor, up: Tensor, states: Tensor) -> Tensor:
    """states [..., in] bfloat16 -> [..., out]; down [in, rank], up [rank, out]."""
    result: Tensor = base(states)
    result.view(-1, result.shape[-1]).addmm_(states.reshape(-1, states.shape[-1]) @ down, up)
    return result


@contextmanager
def in_place(ready: ReadyAdapters) -> Iterator[None]:
    """While this is open, the layers compute with these alone."""
    before = [layer.get_base_layer().weight.data for layer, _ in ready.merged]
    try:
        for layer, weight in ready.merged:
            layer.get_base_layer().weight.data = weight
            layer.merged_adapters.append(ADAPTER)
        for layer, forward in ready.narrow:
            layer.forward = forward
        yield
    finally:
        for (layer, _), weight in zip(ready.merged, before, strict=True):
            layer.get_base_layer().weight.data = weight
            layer.merged_adapters.clear()
        for layer, _ in ready.narrow:
            layer.__dict__.pop("forward", None)
