"""Adapters: where they are put, that they alone learn, and what is said where they cannot be put."""

from __future__ import annotations

import pytest
import torch

from recbench.core.errors import UserError
from recbench.nn.language.backbone import Backbone
from recbench.nn.language.backbone_config import BackboneConfig


def states_of(backbone, vectors):
    with torch.no_grad():
        return backbone.eval()(vectors)


def test_a_pretrained_model_is_frozen_and_learns_through_its_feedforward_layers(llama):
    folder, stored = llama
    backbone = Backbone(BackboneConfig(backbone=str(folder), n_layers=2, lora_rank=3), 50)
    assert backbone.frozen
    learned = {name for name, p in backbone.named_parameters() if p.requires_grad}
    assert len(learned) == 2 * 3 * 2  # layers x projections x (A, B)
    assert all("lora_" in name and "mlp." in name for name in learned)
    kept = {name: p for name, p in backbone.named_parameters() if name not in learned}
    originals = {tuple(p.shape): p for p in kept.values()}
    assert originals
    down = next(p for name, p in kept.items() if "layers.1.mlp.down_proj" in name)
    assert torch.equal(down, stored["layers.1.mlp.down_proj.weight"])
    # Fresh adapters add nothing: the state is that of the stored layers.
    plain = Backbone(BackboneConfig(backbone=str(folder), n_layers=2, lora_rank=0), 50)
    vectors = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(states_of(backbone, vectors)[-1], states_of(plain, vectors)[-1])


def test_only_adapters_get_gradients(llama):
    backbone = Backbone(BackboneConfig(backbone=str(llama[0]), n_layers=2), 50).train()
    backbone(torch.randn(2, 5, 16))[-1].square().sum().backward()
    with_gradient = {name for name, p in backbone.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, p in backbone.named_parameters() if p.requires_grad}


def test_chosen_layers_are_adapted(llama):
    config = BackboneConfig(backbone=str(llama[0]), n_layers=1, lora_targets=["q_proj", "v_proj"])
    learned = [name for name, p in Backbone(config, 50).named_parameters() if p.requires_grad]
    assert len(learned) == 4
    assert all("q_proj" in name or "v_proj" in name for name in learned)


def test_all_adapts_every_linear_layer(llama):
    config = BackboneConfig(backbone=str(llama[0]), n_layers=1, lora_targets=["all"])
    learned = [name for name, p in Backbone(config, 50).named_parameters() if p.requires_grad]
    assert len(learned) == 2 * 7  # four projections of attention and three of the feed-forward
    assert sum("self_attn." in name for name in learned) == 2 * 4


def test_layers_that_do_not_exist_are_refused_with_those_that_do(llama):
    with pytest.raises(UserError) as caught:
        Backbone(BackboneConfig(backbone=str(llama[0]), n_layers=1, lora_targets=["fc1"]), 50)
    message = str(caught.value)
    assert "fc1" in message
    assert all(name in message for name in ("gate_proj", "up_proj", "down_proj", "q_proj"))


@pytest.mark.parametrize(
    ("family", "adapted"),
    [
        ("llama", {"gate_proj", "up_proj", "down_proj"}),
        ("bert", {"intermediate.dense", "output.dense"}),
        ("gpt2", {"mlp.c_fc", "mlp.c_proj"}),
        ("gpt_neox", {"mlp.dense_h_to_4h", "mlp.dense_4h_to_h"}),
    ],
)
def test_the_feed_forward_layers_of_each_family_and_no_others_are_adapted(stored, family, adapted):
    backbone = Backbone(BackboneConfig(backbone=str(stored(family)), n_layers=2), 30)
    learned = [name for name, p in backbone.named_parameters() if p.requires_grad]
    assert len(learned) == 2 * 2 * len(adapted)  # layers x (A, B) x projections
    assert all(any(f"{target}.lora_" in name for target in adapted) for name in learned)
    assert not any("attention" in name or "attn" in name for name in learned)


def test_one_of_two_chosen_layers_that_does_not_exist_is_refused(llama):
    with pytest.raises(UserError, match="no_such"):
        Backbone(BackboneConfig(backbone=str(llama[0]), n_layers=1, lora_targets=["up_proj", "no_such"]), 50)
