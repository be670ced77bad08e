"""Backbones: the tiny one, and models that lie in a folder as Hugging Face stores them. Nothing is downloaded."""

from __future__ import annotations

import pytest
import torch

from recbench.errors import UserError
from recbench.nn.backbone import Backbone, BackboneConfig

TINY = {"tiny_hidden_size": 16, "tiny_n_heads": 2, "tiny_feedforward_size": 24}


@pytest.fixture(scope="module")
def llama(stored_llama):
    """A stored Llama of 4 layers, as (folder, its weights)."""
    from safetensors.torch import load_file

    return stored_llama, load_file(stored_llama / "model.safetensors")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(2)
    BertModel(
        BertConfig(
            vocab_size=30,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=3,
            num_attention_heads=2,
            max_position_embeddings=40,
        )
    ).save_pretrained(folder)
    return folder


def states_of(backbone, vectors):
    with torch.no_grad():
        return backbone.eval()(vectors)


def assert_causal(backbone):
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(2, 7, backbone.width, generator=generator)
    changed = vectors.clone()
    changed[:, 4:] = torch.randn(2, 3, backbone.width, generator=generator)
    for before, after in zip(states_of(backbone, vectors), states_of(backbone, changed), strict=True):
        torch.testing.assert_close(after[:, :4], before[:, :4], atol=1e-6, rtol=1e-5)
        assert not torch.allclose(after[:, 4:], before[:, 4:])
    # An earlier event, on the other hand, is seen by every later one.
    moved = vectors.clone()
    moved[:, 0] *= -1
    last = states_of(backbone, moved)[-1] - states_of(backbone, vectors)[-1]
    assert (last.abs().amax(-1) > 1e-5).all()


@pytest.mark.parametrize("n_layers", [1, 3])
def test_tiny_gives_a_state_after_the_input_and_each_layer(n_layers):
    backbone = Backbone(BackboneConfig(n_layers=n_layers, **TINY), 50)
    states = states_of(backbone, torch.randn(2, 5, 16))
    assert [tuple(state.shape) for state in states] == [(2, 5, 16)] * (n_layers + 1)
    assert backbone.width == 16
    assert not backbone.frozen


def test_tiny_is_causal():
    assert_causal(Backbone(BackboneConfig(n_layers=2, **TINY), 50))


def test_tiny_reads_as_many_positions_as_asked():
    backbone = Backbone(BackboneConfig(n_layers=1, **TINY), 200)
    assert states_of(backbone, torch.randn(1, 200, 16))[-1].isfinite().all()


def test_order_matters_to_tiny():
    backbone = Backbone(BackboneConfig(n_layers=1, **TINY), 50)
    vectors = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(0))
    swapped = vectors[:, [1, 0, 2, 3, 4, 5]]
    assert not torch.allclose(states_of(backbone, vectors)[-1][:, -1], states_of(backbone, swapped)[-1][:, -1])


def test_only_the_first_layers_of_a_stored_model_are_loaded(llama):
    folder, stored = llama
    backbone = Backbone(BackboneConfig(backbone=str(folder), n_layers=2, lora_rank=0), 50)
    loaded = backbone.model.state_dict()
    assert {name.split(".")[1] for name in loaded if name.startswith("layers.")} == {"0", "1"}
    assert all(torch.equal(value, stored[name]) for name, value in loaded.items())
    assert not backbone.frozen
    assert_causal(backbone)


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


def test_layers_that_do_not_exist_are_refused_with_those_that_do(llama):
    with pytest.raises(UserError) as caught:
        Backbone(BackboneConfig(backbone=str(llama[0]), n_layers=1, lora_targets=["fc1"]), 50)
    message = str(caught.value)
    assert "fc1" in message
    assert all(name in message for name in ("gate_proj", "up_proj", "down_proj", "q_proj"))


def test_random_weights_need_the_shape_only(llama):
    folder, stored = llama
    torch.manual_seed(9)
    backbone = Backbone(BackboneConfig(backbone=str(folder), n_layers=2, init="random"), 50)
    assert not backbone.frozen
    weight = backbone.model.layers[0].mlp.gate_proj.weight
    assert weight.requires_grad
    assert weight.shape == stored["layers.0.mlp.gate_proj.weight"].shape
    assert not torch.equal(weight, stored["layers.0.mlp.gate_proj.weight"])


def test_more_layers_than_there_are(llama):
    with pytest.raises(UserError, match=r"has 4 layers, fewer than model.n_layers=5"):
        Backbone(BackboneConfig(backbone=str(llama[0]), n_layers=5), 50)


def test_more_positions_than_there_are(llama):
    with pytest.raises(UserError, match=r"reads 64 positions, fewer than training.max_length=65"):
        Backbone(BackboneConfig(backbone=str(llama[0]), n_layers=1), 65)


def test_a_bert_becomes_causal(bert):
    backbone = Backbone(BackboneConfig(backbone=str(bert), n_layers=2), 30)
    assert len(states_of(backbone, torch.randn(1, 4, 16))) == 3
    learned = [name for name, p in backbone.named_parameters() if p.requires_grad]
    assert learned
    assert not any("attention" in name and "intermediate" in name for name in learned)
    assert_causal(backbone)


def test_a_name_that_cannot_be_had_comes_with_advice():
    with pytest.raises(UserError) as caught:
        Backbone(BackboneConfig(backbone="nobody/has-this-model"), 50)
    message = str(caught.value)
    assert "nobody/has-this-model" in message
    assert "without a network" in message
    assert "model.backbone" in message
    assert "\n" not in message


def test_layers_left_out_are_not_spoken_of_but_missing_weights_are(llama, tmp_path, capfd, caplog):
    from safetensors.torch import save_file

    folder, stored = llama
    Backbone(BackboneConfig(backbone=str(folder), n_layers=1, lora_rank=0), 50)
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    lacking = {name: value for name, value in stored.items() if name != "layers.0.mlp.up_proj.weight"}
    save_file(lacking, tmp_path / "model.safetensors", metadata={"format": "pt"})
    Backbone(BackboneConfig(backbone=str(tmp_path), n_layers=1, lora_rank=0), 50)
    assert "layers.0.mlp.up_proj.weight" in caplog.text
    assert "random" in caplog.text


def test_a_folder_without_weights_is_said_to_be_one(llama, tmp_path):
    (tmp_path / "config.json").write_bytes((llama[0] / "config.json").read_bytes())
    with pytest.raises(UserError, match="safetensors"):
        Backbone(BackboneConfig(backbone=str(tmp_path), n_layers=1), 50)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (BackboneConfig(n_layers=0), ["model.n_layers", "0"]),
        (BackboneConfig(init="pretraind"), ["model.init", "pretrained", "random"]),
        (BackboneConfig(tiny_hidden_size=18, tiny_n_heads=2), ["model.tiny_hidden_size=18", "model.tiny_n_heads=2"]),
    ],
)
def test_wrong_settings_are_named(config, words):
    with pytest.raises(UserError) as caught:
        Backbone(config, 50)
    assert all(word in str(caught.value) for word in words)
