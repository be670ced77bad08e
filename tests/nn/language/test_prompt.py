"""A prompt around the items: one pass over all positions must say what one plain sequence for each prefix says."""

from __future__ import annotations

import pytest
import torch

from recbench.core.errors import UserError
from recbench.nn.language.backbone import Backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.prompt import masked_positions

TINY = {"tiny_hidden_size": 16, "tiny_n_heads": 2, "tiny_feedforward_size": 24}
FAMILIES = ["tiny", "llama", "bert", "roberta", "gpt2", "gpt_neox", "qwen2", "mistral"]
LENGTHS = [(4, 3), (4, 0), (0, 3), (1, 1)]


def backbone_of(stored, family, lengths=(4, 3), **keys):
    name = {} if family == "tiny" else {"backbone": str(stored(family))}
    torch.manual_seed(3)
    config = BackboneConfig(n_layers=2, prompt="learned", prompt_lengths=list(lengths), **{**TINY, **name, **keys})
    backbone = Backbone(config, 12).eval()
    with torch.no_grad():
        for end in (backbone.prompt.prefix, backbone.prompt.suffix):
            end.normal_()
    return backbone


def items(rows=3, length=5, width=16):
    return torch.randn(rows, length, width, generator=torch.Generator().manual_seed(1))


def one_by_one(backbone, vectors):
    """[B, L, H] for each layer: the prefix of every history as a sequence of its own, read at its last position."""
    prefix, suffix = backbone.prompt.prefix, backbone.prompt.suffix
    rows = []
    for row in vectors:
        ends = []
        for t in range(len(row)):
            whole = torch.cat([prefix, row[: t + 1], suffix])[None]
            output = backbone.model(inputs_embeds=whole, output_hidden_states=True, use_cache=False)
            ends.append([state[0, -1] for state in output.hidden_states])
        rows.append([torch.stack(layer) for layer in zip(*ends, strict=True)])
    return [torch.stack(layer) for layer in zip(*rows, strict=True)]


def assert_same(found, expected, **tolerance):
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, **{"atol": 2e-6, "rtol": 1e-5, **tolerance})


@torch.no_grad()
@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_position_reads_as_a_sequence_of_its_own(stored, family, lengths, reuse):
    backbone = backbone_of(stored, family, lengths)
    backbone.reuse_prefix = reuse
    vectors = items()
    expected = one_by_one(backbone, vectors)
    assert_same(backbone(vectors), expected)
    # The end of each history alone, whatever stands behind it.
    ends = torch.tensor([5, 1, 3])
    behind = vectors.clone()
    behind[1, 1:], behind[2, 3:] = 7.0, torch.nan
    last = [layer[torch.arange(3), ends - 1] for layer in expected]
    behind = behind.nan_to_num(9.0)
    assert_same(backbone.last(behind, ends), last)
    assert_same(backbone.last(behind, ends, inner=False), last[-1:])


@pytest.mark.parametrize("family", ["tiny", "bert", "gpt2"])
def test_gradients_flow_through_the_reused_prefix(stored, family):
    """The gradients of prefix, suffix and adapters are those of the plain sequences."""
    backbone = backbone_of(stored, family, init="random_frozen" if family == "tiny" else "pretrained", lora_dropout=0.0)
    for name, parameter in backbone.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(4))
    vectors, weight = items(), torch.randn(16, generator=torch.Generator().manual_seed(5))

    def gradients(states):
        backbone.zero_grad()
        (states[-1] @ weight).square().sum().backward()
        return {name: p.grad.clone() for name, p in backbone.named_parameters() if p.requires_grad}

    expected = gradients(one_by_one(backbone, vectors))
    assert any("lora_A" in name for name in expected)
    assert {"prompt.prefix", "prompt.suffix"} < expected.keys()
    assert all(gradient.any() for gradient in expected.values())
    found = gradients(backbone(vectors))
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-4, rtol=1e-3)


def test_the_mask_lets_a_suffix_see_its_own_history_only():
    mask, positions = masked_positions(2, 3, 2, torch.device("cpu"))
    assert positions.tolist() == [0, 1, 2, 3, 4, 3, 4, 4, 5, 5, 6]
    seen = [row.nonzero().flatten().tolist() for row in mask]
    assert seen[:5] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]]
    assert seen[5:7] == [[0, 1, 2, 5], [0, 1, 2, 5, 6]]
    assert seen[7:9] == [[0, 1, 2, 3, 7], [0, 1, 2, 3, 7, 8]]
    assert seen[9:] == [[0, 1, 2, 3, 4, 9], [0, 1, 2, 3, 4, 9, 10]]


def passes_over_the_prefix(backbone, monkeypatch):
    made = []
    plain = backbone._states

    def watched(vectors, mask=None, positions=None, cache=None, inner=True):
        if cache is not None and mask is None:
            made.append(len(vectors))
        return plain(vectors, mask, positions, cache, inner)

    monkeypatch.setattr(backbone, "_states", watched)
    return made


def test_the_prefix_is_computed_once_for_one_row_and_kept_until_something_changes(stored, monkeypatch):
    backbone = backbone_of(stored, "llama")
    made = passes_over_the_prefix(backbone, monkeypatch)
    vectors, ends = items(), torch.tensor([5, 1, 3])
    with torch.no_grad():
        first = backbone.last(vectors, ends)
        for _ in range(3):
            assert_same(backbone.last(vectors, ends), first, atol=0.0, rtol=0.0)
        assert made == [1]
        changed = next(p for name, p in backbone.named_parameters() if "lora_B" in name)
        changed.add_(1.0)
        second = backbone.last(vectors, ends)
        assert not torch.allclose(second[-1], first[-1])
        assert made == [1, 1]
        backbone.load_state_dict({name: value.clone() for name, value in backbone.state_dict().items()})
        backbone.last(vectors, ends)
        assert made == [1, 1, 1]
        backbone.train().eval()
        backbone.last(vectors, ends)
        assert made == [1] * 4
    # What carries gradients is never kept.
    backbone.last(vectors, ends)
    backbone.last(vectors, ends)
    assert made == [1] * 6
    backbone.train()
    with torch.no_grad():
        backbone.last(vectors, ends)
        backbone.last(vectors, ends)
    assert made == [1] * 8


def test_a_text_is_read_by_the_backbones_own_tokenizer(with_tokenizer):
    folder = with_tokenizer("llama")
    config = BackboneConfig(
        backbone=str(folder), n_layers=2, prompt="text", prompt_prefix="Given the history:", prompt_suffix="next item"
    )
    backbone = Backbone(config, 10).eval()
    assert backbone.prompt.prefix.tolist() == [2, 3, 4, 7]  # no special token in front
    assert backbone.prompt.suffix.tolist() == [5, 6]
    table = backbone.model.get_input_embeddings()
    assert table.weight.shape == (30, 16)
    assert not table.weight.requires_grad
    assert not any("prompt" in name for name in backbone.state_dict())
    learned = BackboneConfig(backbone=str(folder), n_layers=2, prompt="learned", prompt_lengths=[4, 2])
    same = Backbone(learned, 10).eval()
    with torch.no_grad():
        same.prompt.prefix.copy_(table.weight[[2, 3, 4, 7]])
        same.prompt.suffix.copy_(table.weight[[5, 6]])
        assert_same(backbone(items()), same(items()))


def test_a_text_around_items_in_bfloat16(with_tokenizer):
    config = BackboneConfig(backbone=str(with_tokenizer("llama")), n_layers=2, prompt="text", precision="bfloat16")
    backbone = Backbone(config, 10).eval()
    with torch.no_grad():
        for reuse in (True, False):
            backbone.reuse_prefix = reuse
            states = backbone(items())
            assert {state.dtype for state in states} == {torch.float32}
            assert states[-1].isfinite().all()


def test_a_text_without_a_tokenizer_is_refused(stored):
    for family in ("llama", "bert"):  # a Bert without files makes itself a tokenizer of special tokens
        with pytest.raises(
            UserError, match=r"prompt=text needs the tokenizer of .*tokenizer.json.*prompt=learned"
        ) as caught:
            Backbone(BackboneConfig(backbone=str(stored(family)), n_layers=1, prompt="text"), 10)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"prompt": "txt"}, ["model.prompt", "text", "learned", "none"]),
        ({"prompt": "text"}, ["'tiny' reads no text", "model.prompt=learned"]),
        (
            {"prompt": "text", "backbone": "x", "prompt_prefix": "", "prompt_suffix": ""},
            ["both empty", "model.prompt=none"],
        ),
        ({"prompt": "learned", "prompt_lengths": [0, 0]}, ["model.prompt_lengths", "above 0"]),
        ({"prompt": "learned", "prompt_lengths": [3]}, ["model.prompt_lengths", "two numbers"]),
        ({"prompt": "learned", "prompt_lengths": [-1, 3]}, ["model.prompt_lengths"]),
    ],
)
def test_wrong_prompt_settings_are_named(keys, words):
    with pytest.raises(UserError) as caught:
        Backbone(BackboneConfig(**{**TINY, **keys}), 10)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("family", "reads", "fits"),
    [("llama", 64, True), ("llama", 64, False), ("roberta", 38, True), ("roberta", 38, False), ("mistral", 32, False)],
)
def test_history_and_prompt_must_fit_the_positions_together(stored, family, reads, fits):
    config = BackboneConfig(backbone=str(stored(family)), n_layers=1, prompt="learned", prompt_lengths=[20, 2])
    longest = reads - 22
    if fits:
        backbone = Backbone(config, longest).eval()
        vectors = items(2, longest)
        with torch.no_grad():
            assert backbone.last(vectors, torch.tensor([longest, 1]))[-1].isfinite().all()
        return
    expected = (
        rf"reads {reads} positions, fewer than training.max_length={longest + 1} and the 22 of the prompt together"
    )
    with pytest.raises(UserError, match=expected):
        Backbone(config, longest + 1)


def test_tiny_has_room_for_its_prompt():
    backbone = Backbone(BackboneConfig(n_layers=1, prompt="learned", prompt_lengths=[60, 10], **TINY), 50)
    assert backbone.model.config.max_position_embeddings == 120


def test_a_family_whose_positions_cannot_be_chosen_takes_no_prompt(tmp_path):
    from transformers import BloomConfig, BloomModel

    shape = BloomConfig(vocab_size=30, hidden_size=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    BloomModel(shape).save_pretrained(tmp_path)
    Backbone(BackboneConfig(backbone=str(tmp_path), n_layers=1), 10)
    with pytest.raises(UserError, match=r"bloom.*model.prompt=none"):
        Backbone(BackboneConfig(backbone=str(tmp_path), n_layers=1, prompt="learned"), 10)
