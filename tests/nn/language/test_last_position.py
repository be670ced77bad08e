"""Reading one position of each row: what is left out changes nothing of what is read."""

from __future__ import annotations

import pytest
import torch

from recbench.nn.language import attention
from recbench.nn.language import backbone as module
from recbench.nn.language.backbone import Backbone
from recbench.nn.language.backbone_config import BackboneConfig

FAMILIES = ["llama", "bert", "gpt2", "gpt_neox", "qwen2", "mistral"]
LENGTHS = torch.tensor([1, 6, 3, 6])


def made(stored, family, **keys):
    torch.manual_seed(3)
    return Backbone(BackboneConfig(backbone=str(stored(family)), n_layers=2, **keys), 12).eval()


def vectors():
    return torch.randn(4, 6, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prompt", ["none", "learned"])
def test_the_position_that_is_read_is_that_of_a_whole_pass(stored, family, prompt):
    backbone = made(stored, family, prompt=prompt, prompt_lengths=[3, 2])
    with torch.no_grad():
        found = backbone.last(vectors(), LENGTHS)
        expected = [states[torch.arange(4), LENGTHS - 1] for states in backbone(vectors())]
    for layer, (one, whole) in enumerate(zip(found, expected, strict=True)):
        torch.testing.assert_close(one, whole, msg=lambda text, layer=layer: f"layer {layer}: {text}")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_feed_forward_part_sees_one_position_a_row(stored, family):
    backbone = made(stored, family)
    (part,) = backbone._last_feedforward
    if family == "bert":
        assert part is None
        return
    seen = []
    part.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    with torch.no_grad():
        backbone.last(vectors(), LENGTHS, inner=False)
    backbone.last(vectors(), LENGTHS, inner=False)  # with gradients nothing is left out
    # The first hook of a pass sees what comes in; ours stands before the cut where it was registered first.
    assert seen[-1] == (4, 6, 16)
    assert not part._forward_hooks


def test_rows_in_pieces_are_the_rows_together(stored, monkeypatch):
    backbone = made(stored, "llama")
    with torch.no_grad():
        together = backbone.last(vectors(), LENGTHS)
        monkeypatch.setattr(module, "PIECE_POSITIONS", 12)
        pieces = backbone.last(vectors(), LENGTHS)
    for one, other in zip(pieces, together, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("prompt", ["none", "learned"])
def test_attention_in_float32_stays_near_that_of_bfloat16(stored, prompt):
    wide = made(stored, "llama", precision="bfloat16", prompt=prompt, prompt_lengths=[3, 2])
    narrow = made(stored, "llama", precision="bfloat16", prompt=prompt, prompt_lengths=[3, 2])
    assert wide.model.config._attn_implementation == attention.NAME
    narrow.model.config._attn_implementation = "sdpa"
    exact = made(stored, "llama", prompt=prompt, prompt_lengths=[3, 2])
    with torch.no_grad():
        found, other, best = (b(vectors())[-1] for b in (wide, narrow, exact))
    scale = best.abs().max()
    assert (found - best).abs().max() < 0.03 * scale
    assert (found - other).abs().max() < 0.03 * scale
