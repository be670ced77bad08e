"""Backbones: the tiny one, and models that lie in a folder as Hugging Face stores them. Nothing is downloaded."""

from __future__ import annotations

import pytest
import torch

from recbench.core.errors import UserError
from recbench.nn.language.backbone import Backbone, backbone_width, check_backbone
from recbench.nn.language.backbone_config import BackboneConfig

TINY = {"tiny_hidden_size": 16, "tiny_n_heads": 2, "tiny_feedforward_size": 24}


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


@pytest.mark.parametrize("family", ["llama", "bert", "roberta", "gpt2", "gpt_neox", "qwen2", "mistral"])
def test_a_stored_model_of_any_family_is_causal(stored, family):
    backbone = Backbone(BackboneConfig(backbone=str(stored(family)), n_layers=2), 30)
    assert len(states_of(backbone, torch.randn(1, 4, 16))) == 3
    assert_causal(backbone)


def test_an_encoder_that_stays_one_is_refused(stored):
    with pytest.raises(UserError, match=r"distilbert.*lets a position see later ones"):
        Backbone(BackboneConfig(backbone=str(stored("distilbert")), n_layers=2), 30)


@pytest.mark.parametrize("family", ["tiny", "llama", "gpt2", "gpt_neox", "qwen2", "mistral"])
def test_an_inner_state_normed_is_the_last_state_of_a_shallower_model(stored, family):
    name = {"init": "random_frozen", **TINY} if family == "tiny" else {"backbone": str(stored(family))}
    deep, shallow = (Backbone(BackboneConfig(n_layers=n, **name), 30) for n in (3, 2))
    if family == "tiny":
        shallow.load_state_dict(deep.state_dict(), strict=False)
    vectors = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    inner, expected = states_of(deep, vectors)[2], states_of(shallow, vectors)[-1]
    torch.testing.assert_close(deep.normed(inner), expected)
    assert not torch.allclose(inner, expected)


def test_a_bert_norms_nothing_after_its_last_layer(stored):
    backbone = Backbone(BackboneConfig(backbone=str(stored("bert")), n_layers=2), 30)
    states = torch.randn(2, 3, 16)
    assert backbone.normed(states) is states


@pytest.mark.parametrize("family", ["tiny", "bert", "gpt2", "llama"])
def test_the_last_states_are_those_of_the_whole_pass(stored, family):
    name = TINY if family == "tiny" else {"backbone": str(stored(family))}
    backbone = Backbone(BackboneConfig(n_layers=2, **name), 30).eval()
    vectors, ends = torch.randn(3, 5, 16), torch.tensor([5, 1, 3])
    with torch.no_grad():
        whole = [layer[torch.arange(3), ends - 1] for layer in backbone(vectors)]
        for mine, theirs in zip(backbone.last(vectors, ends), whole, strict=True):
            torch.testing.assert_close(mine, theirs)
        (alone,) = backbone.last(vectors, ends, inner=False)
    torch.testing.assert_close(alone, whole[-1])


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2"])
def test_weights_in_bfloat16_say_nearly_the_same_and_adapters_stay_precise(stored, family):
    keys = {"backbone": str(stored(family)), "n_layers": 2}
    exact = Backbone(BackboneConfig(**keys), 30)
    narrow = Backbone(BackboneConfig(**keys, precision="bfloat16"), 30)
    dtypes = {p.requires_grad: p.dtype for p in narrow.parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}
    vectors = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    for mine, theirs in zip(states_of(narrow, vectors), states_of(exact, vectors), strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, atol=0.1, rtol=0.05)
        assert not torch.equal(mine, theirs)
    inner = torch.randn(2, 16)
    assert narrow.normed(inner).dtype == torch.float32
    narrow.train()(vectors)[-1].square().sum().backward()
    learned = [p for p in narrow.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in learned)


def test_weights_in_int8_say_nearly_the_same(stored):
    pytest.importorskip("bitsandbytes", reason="the extra recbench[int8] is not installed")
    keys = {"backbone": str(stored("llama")), "n_layers": 2}
    exact, narrow = Backbone(BackboneConfig(**keys), 30), Backbone(BackboneConfig(**keys, precision="int8"), 30)
    assert torch.int8 in {p.dtype for p in narrow.parameters()}
    vectors = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(states_of(narrow, vectors)[-1], states_of(exact, vectors)[-1], atol=0.2, rtol=0.1)
    narrow.train()(vectors)[-1].square().sum().backward()
    assert all(p.grad is not None and p.dtype == torch.float32 for p in narrow.parameters() if p.requires_grad)


def test_int8_without_bitsandbytes_says_what_to_install(stored, monkeypatch):
    monkeypatch.setattr("recbench.nn.language.backbone_config.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'recbench\[int8\]'"):
        check_backbone(BackboneConfig(backbone=str(stored("llama")), n_layers=1, precision="int8"))


@pytest.mark.parametrize("family", ["tiny", "llama"])
def test_frozen_random_weights_are_the_same_under_every_seed(stored, family):
    name = TINY if family == "tiny" else {"backbone": str(stored(family))}
    built = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        built.append(Backbone(BackboneConfig(n_layers=2, init="random_frozen", **name), 30))
    first, second = (dict(backbone.named_parameters()) for backbone in built)
    assert built[0].frozen
    for key, parameter in first.items():
        if parameter.requires_grad:
            assert "lora_" in key
            assert "lora_B" in key or not torch.equal(parameter, second[key])
        else:
            assert torch.equal(parameter, second[key])
    weights = [p for key, p in first.items() if "mlp.up_proj" in key and not p.requires_grad]
    assert len(weights) == 2
    assert all(p.std() > 0.01 for p in weights)


@pytest.fixture(scope="module")
def llama_2_7b(tmp_path_factory):
    """The shape of Llama-2-7B: its config.json, without weights."""
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("llama_2_7b")
    LlamaConfig(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        max_position_embeddings=4096,
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("n_layers", "all_published", "learned_published"), [(4, 0.944, 0.003), (8, 1.756, 0.006), (32, 6.631, 0.023)]
)
def test_the_paper_counts_as_many_parameters(llama_2_7b, n_layers, all_published, learned_published, monkeypatch):
    """Table 7 of SLMRec, in billions: layers, final norm, adapters, and the token table for the prompt.

    The two maps between item vectors and states, 1,052,672 values at 128 wide, are not in the published numbers: with them the
    totals would be 0.945 and 6.632, and what is trained 0.004 and 0.024. (The paper has no row of 8 layers; that figure is our own sum.)
    """
    monkeypatch.setattr("recbench.nn.language.prompt.token_ids", lambda config: ([1] * 63, [2] * 6))
    config = BackboneConfig(backbone=str(llama_2_7b), n_layers=n_layers, init="random_frozen", prompt="text")
    with torch.device("meta"):
        backbone = Backbone(config, 30)
    layer = 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096
    adapters = 3 * 16 * (4096 + 11008)
    total = sum(p.numel() for p in backbone.parameters())
    learned = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    assert total == n_layers * (layer + adapters) + 4096 + 32000 * 4096
    assert learned == n_layers * adapters
    assert round(total / 1e9, 3) == all_published
    assert round(learned / 1e9, 3) == learned_published
    assert {p.device.type for p in backbone.parameters()} == {"meta"}


@pytest.mark.parametrize("family", ["tiny", "llama"])
def test_the_width_is_known_without_weights(stored, family, tmp_path):
    if family == "tiny":
        assert backbone_width(BackboneConfig(tiny_hidden_size=24)) == 24
        return
    (tmp_path / "config.json").write_bytes((stored(family) / "config.json").read_bytes())
    assert backbone_width(BackboneConfig(backbone=str(tmp_path))) == 16


@pytest.mark.parametrize("family", ["tiny", "llama", "bert", "roberta", "gpt2"])
def test_whatever_is_trained_gets_a_gradient(stored, family):
    """A BERT's pooler, for one, would get none."""
    name = TINY if family == "tiny" else {"backbone": str(stored(family))}
    backbone = Backbone(BackboneConfig(n_layers=2, init="random", **name), 30).train()
    torch.manual_seed(0)
    backbone(torch.randn(3, 6, 16))[-1].pow(3).sum().backward()
    assert [key for key, p in backbone.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (BackboneConfig(n_layers=0), ["model.n_layers", "0"]),
        (BackboneConfig(init="pretraind"), ["model.init", "pretrained", "random"]),
        (BackboneConfig(init="random_frozen", lora_rank=0), ["model.init=random_frozen", "model.lora_rank"]),
        (BackboneConfig(lora_rank=-1), ["model.lora_rank", "-1"]),
        (BackboneConfig(precision="bf16"), ["model.precision", "bfloat16", "int8"]),
        (BackboneConfig(precision="bfloat16"), ["stay frozen", "model.precision=float32"]),
        (BackboneConfig(backbone="x", lora_rank=0, precision="bfloat16"), ["stay frozen", "model.lora_rank"]),
        (BackboneConfig(backbone="x", init="random", precision="int8"), ["stay frozen", "pretrained"]),
        (BackboneConfig(init="random_frozen", precision="int8"), ["stored weights", "model.init"]),
        (BackboneConfig(tiny_hidden_size=18, tiny_n_heads=2), ["model.tiny_hidden_size=18", "model.tiny_n_heads=2"]),
    ],
)
def test_wrong_settings_are_named(config, words):
    with pytest.raises(UserError) as caught:
        Backbone(config, 50)
    assert all(word in str(caught.value) for word in words)
