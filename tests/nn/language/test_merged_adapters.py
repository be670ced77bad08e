"""Adapters as a part of the weights while histories are ranked: the same states, and weights that come back as they were."""

from __future__ import annotations

import pytest
import torch

from recbench.nn.language.backbone import Backbone
from recbench.nn.language.backbone_config import BackboneConfig

LENGTHS = torch.tensor([1, 6, 3, 6])


def made(stored, family, **keys):
    torch.manual_seed(3)
    backbone = Backbone(BackboneConfig(backbone=str(stored(family)), n_layers=2, lora_rank=3, **keys), 12).eval()
    for name, parameter in backbone.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return backbone


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_states_are_those_of_separate_products_and_the_weights_come_back(stored, family):
    backbone = made(stored, family)
    vectors = torch.randn(4, 6, 16)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with torch.no_grad():
        expected = [states[torch.arange(4), LENGTHS - 1] for states in backbone(vectors)]
        found = backbone.last(vectors, LENGTHS)
        again = [states[torch.arange(4), LENGTHS - 1] for states in backbone(vectors)]
    assert len(backbone._ready[1].merged) in (4, 6)  # 2 layers, of 2 or 3 projections
    for one, whole, later in zip(found, expected, again, strict=True):
        torch.testing.assert_close(one, whole)
        assert torch.equal(later, whole)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_a_step_of_training_is_seen(stored):
    backbone, vectors = made(stored, "llama"), torch.randn(4, 6, 16)
    with torch.no_grad():
        first = backbone.last(vectors, LENGTHS, inner=False)[0]
        for name, parameter in backbone.named_parameters():
            if "lora_B" in name:
                parameter.mul_(-1.0)
        second = backbone.last(vectors, LENGTHS, inner=False)[0]
        expected = backbone(vectors)[-1][torch.arange(4), LENGTHS - 1]
    assert not torch.allclose(first, second)
    torch.testing.assert_close(second, expected)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_adapters_take_the_precision_of_weights_in_bfloat16(stored, family):
    backbone = made(stored, family, precision="bfloat16", lora_alpha=6)
    vectors = torch.randn(4, 6, 16)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with torch.no_grad():
        expected = backbone(vectors)[-1][torch.arange(4), LENGTHS - 1]
        found = backbone.last(vectors, LENGTHS, inner=False)[0]
        again = backbone(vectors)[-1][torch.arange(4), LENGTHS - 1]
        backbone.model.disable_adapter_layers()
        without = backbone(vectors)[-1][torch.arange(4), LENGTHS - 1]
    assert len(backbone._ready[1].narrow) in (4, 6)
    assert not backbone._ready[1].merged
    assert torch.equal(again, expected)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    # Far below what the adapters do to the states, at bfloat16's 8 bits.
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()
    assert (without - expected).abs().max() > 0.5 * expected.abs().max()


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_the_map_that_ends_attention_works_at_one_position_a_row(stored, family):
    backbone = made(stored, family)
    (part,) = backbone._last_attention
    shapes = []
    part.register_forward_hook(lambda module, given, result: shapes.append(tuple(result.shape)))
    with torch.no_grad():
        backbone.last(torch.randn(4, 6, 16), LENGTHS, inner=False)
    assert shapes == [(4, 1, 16)]
