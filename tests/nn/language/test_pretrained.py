"""Models that lie in a folder as Hugging Face stores them: what is read of them, and what is said where that cannot be."""

from __future__ import annotations

import pytest
import torch

from recbench.core.errors import UserError
from recbench.nn.language.backbone import Backbone
from recbench.nn.language.backbone_config import BackboneConfig


def assert_causal(backbone):
    vectors = torch.randn(2, 7, backbone.width, generator=torch.Generator().manual_seed(3))
    changed = vectors.clone()
    changed[:, 4:] *= -1
    with torch.no_grad():
        before, after = backbone.eval()(vectors)[-1], backbone(changed)[-1]
    torch.testing.assert_close(after[:, :4], before[:, :4], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(after[:, 4:], before[:, 4:])


def test_only_the_first_layers_of_a_stored_model_are_loaded(llama):
    folder, stored = llama
    backbone = Backbone(BackboneConfig(backbone=str(folder), n_layers=2, lora_rank=0), 50)
    loaded = backbone.model.state_dict()
    assert {name.split(".")[1] for name in loaded if name.startswith("layers.")} == {"0", "1"}
    tokens = loaded.pop("embed_tokens.weight")
    assert all(torch.equal(value, stored[name]) for name, value in loaded.items())
    assert tokens.shape == (1, 16)  # nothing is made of tokens here, so their table costs no memory
    assert not backbone.frozen
    assert_causal(backbone)


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


@pytest.mark.parametrize("init", ["pretrained", "random_frozen"])
def test_a_new_backbone_trains_with_its_own_dropout_from_the_first_step(stored, init):
    """Otherwise the first epoch, and the first one of a resumed training, would differ from all others."""
    backbone = Backbone(BackboneConfig(backbone=str(stored("bert")), n_layers=2, init=init), 30)
    assert all(module.training for module in backbone.modules())


class Watched:
    """A safetensors file that notes which of its tensors are taken out of it."""

    taken: set[str]

    def __init__(self, *args, **kwargs):
        from safetensors import safe_open

        self.file = safe_open(*args, **kwargs)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        return None

    def __getattr__(self, name):
        return getattr(self.file, name)

    def get_tensor(self, name):
        self.taken.add(name)
        return self.file.get_tensor(name)

    def get_slice(self, name):
        return WatchedSlice(self, name)


class WatchedSlice:
    def __init__(self, owner, name):
        self.owner, self.name, self.slice = owner, name, owner.file.get_slice(name)

    def __getitem__(self, index):
        self.owner.taken.add(self.name)
        return self.slice[index]

    def __getattr__(self, name):
        return getattr(self.slice, name)


@pytest.mark.parametrize("shards", [1, 5])
def test_weights_of_layers_that_are_left_out_are_never_read(llama, tmp_path, monkeypatch, shards):
    from transformers import AutoModel

    folder, stored = llama
    if shards > 1:
        folder = tmp_path
        AutoModel.from_pretrained(llama[0]).save_pretrained(folder, max_shard_size="5KB")
        assert len(list(folder.glob("*.safetensors"))) > 3
    monkeypatch.setattr(Watched, "taken", set(), raising=False)
    monkeypatch.setattr("transformers.modeling_utils.safe_open", Watched)
    Backbone(BackboneConfig(backbone=str(folder), n_layers=2), 50)
    upper = {name for name in stored if name.startswith(("layers.2.", "layers.3."))}
    assert len(upper) == 18
    assert Watched.taken == stored.keys() - upper
