"""Mostly zeros: smaller on disk and the same when they come back."""

from __future__ import annotations

import torch

from recbench.posthoc.compression.packed import pack, unpack


def test_what_is_packed_comes_back():
    generator = torch.Generator().manual_seed(1)
    sparse = torch.randn(13, 7, generator=generator) * (torch.rand(13, 7, generator=generator) < 0.4)
    state = {
        "a.weight": sparse,
        "b.weight": sparse.bfloat16(),
        "empty.weight": torch.zeros(4, 5),
        "dense.weight": torch.ones(3, 3),
        "other": torch.zeros(50),
    }
    named = {name for name in state if name.endswith("weight")}
    packed = pack(state, named)
    assert set(packed) == {
        *(f"{name}.{part}" for name in ("a.weight", "b.weight", "empty.weight") for part in ("kept", "places")),
        "dense.weight",  # with the bits it would be larger
        "other",  # not named
    }
    back = unpack(packed, {name: tensor.shape for name, tensor in state.items()})
    assert set(back) == set(state)
    for name, tensor in state.items():
        assert torch.equal(back[name], tensor)
        assert back[name].dtype == tensor.dtype


def test_half_of_the_weights_take_a_little_more_than_half_of_the_bytes():
    weight = torch.ones(64, 64)
    weight[::2] = 0
    packed = pack({"weight": weight}, {"weight"})
    assert sum(tensor.nbytes for tensor in packed.values()) == weight.nbytes * (1 / 2 + 1 / 32)
