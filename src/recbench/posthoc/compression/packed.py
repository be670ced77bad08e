"""Tensors that are mostly zeros, as they are stored: the values that are not 0, and one bit a place that says where they are.

With half of the weights 0 this takes 53 % of the bytes of a dense float32 tensor; with less than a thirty-second of them 0 it would take more.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np
import torch
from torch import Tensor

KEPT, PLACES = ".kept", ".places"


def pack(state: Mapping[str, Tensor], names: Container[str]) -> dict[str, Tensor]:
    """The named tensors as NAME.kept [number of values that are not 0] and NAME.places [bytes] uint8, where that is smaller.

    All others stay as they are.
    """
    packed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        packed[name] = tensor
        if name not in names:
            continue
        places = tensor != 0
        kept = tensor[places]
        bits = torch.from_numpy(np.packbits(places.cpu().numpy()))
        if kept.nbytes + bits.nbytes < tensor.nbytes:
            del packed[name]
            packed[name + KEPT], packed[name + PLACES] = kept, bits
    return packed


def unpack(packed: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The inverse of ``pack``; ``shapes`` by name. A zero comes back as +0."""
    state = {name: tensor for name, tensor in packed.items() if not name.endswith((KEPT, PLACES))}
    for name in (name.removesuffix(KEPT) for name in packed if name.endswith(KEPT)):
        kept, shape = packed[name + KEPT], shapes[name]
        places = np.unpackbits(packed[name + PLACES].numpy(), count=shape.numel()).astype(bool).reshape(shape)
        state[name] = torch.zeros(shape, dtype=kept.dtype)
        state[name][torch.from_numpy(places)] = kept
    return state
