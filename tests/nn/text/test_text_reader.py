"""Prompts and their continuations: what is read side by side is what would be read one at a time."""

from __future__ import annotations

import pytest
import torch

from recbench.core.errors import UserError
from recbench.models.language.x_cross import XCrossConfig
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.cross_backbone import CrossBackbone
from recbench.nn.text import text_reader
from recbench.nn.text.tails import Tails, who_sees_whom
from recbench.nn.text.text_reader import TextReader, blocks

TINY = {"tiny_hidden_size": 16, "tiny_n_heads": 2, "tiny_feedforward_size": 16, "n_layers": 2}
PROMPTS = [[3, 4, 5, 6], [7], [1, 2]]
TAILS = [[[1, 2, 3], [4]], [[5, 5]], [[6], [7, 8], [9, 1, 2]]]


@pytest.fixture
def reader():
    torch.manual_seed(1)
    return TextReader(BackboneConfig(**TINY), 40, learns=True).eval()


def cross_reader():
    """Two streams that differ, mixed behind each layer."""
    torch.manual_seed(1)
    config = XCrossConfig(**TINY, lora_targets=["up_proj"], lora_rank=2)
    reader = TextReader(config, 40, learns=True, kind=CrossBackbone).eval()
    for part in reader.backbone.integrators():
        torch.nn.init.normal_(part.mix.weight, std=0.1)
    for part in reader.backbone.adapted.values():
        torch.nn.init.normal_(part.up, std=0.5)
    return reader


@torch.no_grad()
def states_alone(reader, ids):
    return reader.backbone.read(reader.words.inputs()[torch.tensor([ids])])[0]


@torch.no_grad()
def test_continuations_side_by_side_are_those_of_single_rows(reader):
    sums = reader.log_likelihoods(PROMPTS, TAILS)
    ends = reader.tail_ends(PROMPTS, TAILS)
    for prompt, tails, some, states in zip(PROMPTS, TAILS, sums, ends, strict=True):
        for k, tail in enumerate(tails):
            alone = states_alone(reader, prompt + tail)
            logs = reader.words.logits(alone[len(prompt) - 1 : -1]).log_softmax(-1)
            torch.testing.assert_close(some[k], logs[range(len(tail)), tail].sum(), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(states[k], alone[-1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_company_and_blocks_change_nothing(reader, monkeypatch):
    together = reader.log_likelihoods(PROMPTS, TAILS)
    ends = reader.ends(PROMPTS)
    monkeypatch.setattr(text_reader, "CELLS", 1)
    monkeypatch.setattr(text_reader, "LOGITS", 1)
    for alone, joined in zip(reader.log_likelihoods(PROMPTS, TAILS), together, strict=True):
        torch.testing.assert_close(alone, joined, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(reader.ends(PROMPTS), ends, atol=1e-5, rtol=1e-5)
    for prompt, end in zip(PROMPTS, ends, strict=True):
        torch.testing.assert_close(states_alone(reader, prompt)[-1], end, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["plain", "several streams"])
def test_what_all_prompts_begin_with_is_read_once_and_changes_nothing(kind, reader, monkeypatch):
    if kind == "several streams":
        reader = cross_reader()
    prompts = [[9, 8, 7, 6, *prompt] for prompt in PROMPTS]
    alone = reader.ends(prompts), reader.tail_ends(prompts, TAILS), reader.log_likelihoods(prompts, TAILS)
    monkeypatch.setattr(text_reader, "WORTH_SHARING", 4)
    widths = []
    read = reader.backbone.read
    monkeypatch.setattr(
        reader.backbone, "read", lambda vectors, *rest: widths.append(vectors.shape[:2]) or read(vectors, *rest)
    )
    shared = reader.ends(prompts), reader.tail_ends(prompts, TAILS), reader.log_likelihoods(prompts, TAILS)
    assert widths[:2] == [(1, 4), (3, 4)]
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=1e-5)


def test_learning_at_one_position_has_the_gradients_of_the_whole(reader):
    reader.train()
    weights = [part for part in reader.parameters() if part.requires_grad]
    widths = []
    *_, part = reader.backbone.one_position
    part.up_proj.register_forward_hook(lambda _, given, out: widths.append(out.shape[1]))
    found = torch.autograd.grad(reader.ends(PROMPTS).square().sum(), weights, allow_unused=True)
    assert widths == [1]
    ids, length = reader._padded(PROMPTS)
    states = reader.backbone.read(reader._vectors(ids))[torch.arange(len(ids)), length - 1]
    assert widths == [1, ids.shape[1]]
    expected = torch.autograd.grad(states.square().sum(), weights, allow_unused=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_an_adapter_with_dropout_in_the_last_layer_draws_what_it_drew(copying_model):
    """Where it stands at one position it would draw fewer numbers, and a seed would train another model."""
    folder = copying_model(["red", "blue", "A", "B"])
    config = BackboneConfig(backbone=str(folder), n_layers=1, lora_rank=2, lora_dropout=0.5)
    reader = TextReader(config, 8, learns=True).train()
    widths = []
    *_, part = reader.backbone.one_position
    part.up_proj.register_forward_hook(lambda _, given, out: widths.append(out.shape[1]))
    reader.ends([[1, 2, 3], [1, 2, 3, 4]])
    with torch.no_grad():
        reader.eval().ends([[1, 2, 3], [1, 2, 3, 4]])
    assert widths == [4, 1]


def test_nothing_is_shared_where_a_gradient_is_wanted(reader, monkeypatch):
    monkeypatch.setattr(text_reader, "WORTH_SHARING", 1)
    prompts = [[9, *prompt] for prompt in PROMPTS]
    reader.ends(prompts).square().sum().backward()
    learned = reader.backbone.model.layers[0].mlp.up_proj.weight.grad
    assert learned is not None
    assert learned.abs().sum() > 0
    with torch.no_grad():
        assert reader._read_once(prompts).length == 1
    assert reader._read_once(prompts).length == 0


@torch.no_grad()
def test_another_order_of_the_continuations_is_the_same_in_that_order(reader):
    straight = reader.log_likelihoods([PROMPTS[2]], [TAILS[2]])[0]
    turned = reader.log_likelihoods([PROMPTS[2]], [TAILS[2][::-1]])[0]
    torch.testing.assert_close(turned.flip(0), straight, atol=1e-5, rtol=1e-5)


def test_who_sees_whom():
    tails = Tails.of([[[5, 6], [7]], [[8], [9]]])
    assert tails.last.tolist() == [[False, True, True], [True, True, False]]
    mask, positions = who_sees_whom(torch.tensor([1, 2]), 2, tails)
    sees = [[[column for column, seen in enumerate(line) if seen] for line in row] for row in mask.tolist()]
    assert sees[0] == [[0], [0, 1], [0, 2], [0, 2, 3], [0, 4]]
    assert sees[1] == [[0], [0, 1], [0, 1, 2], [0, 1, 3], [0, 1, 4]]
    assert positions.tolist() == [[0, 1, 1, 2, 1], [0, 1, 2, 2, 2]]


def test_every_row_is_in_one_block(monkeypatch):
    monkeypatch.setattr(text_reader, "CELLS", 100)
    found = list(blocks([5, 1, 9, 1, 2]))
    assert sorted(i for block in found for i in block) == [0, 1, 2, 3, 4]
    assert [2] in found
    assert [len(block) for block in blocks([3, 3, 2, 9, 3], 8)] == [2, 2, 1]


def test_words_of_tiny_are_hashed_and_answers_are_one_token_each(reader):
    assert reader.ids(["Red, red"])[0] == reader.ids(["red"])[0] * 2
    assert len(reader.ids(["Red, red"])[0]) == 2
    with pytest.raises(UserError, match="has not one token for the answer 'two words'"):
        reader.answers(["two words"])
    with pytest.raises(UserError, match=r"are one token of 'tiny'; change model.text_buckets"):
        reader.answers(["red", "Red"])


def test_a_named_model_reads_with_its_own_tokenizer_and_words(copying_model):
    folder = copying_model(["red", "blue", "A", "B"])
    reader = TextReader(BackboneConfig(backbone=str(folder), n_layers=1), 8, learns=False).eval()
    assert reader.frozen
    assert reader.ids(["red blue"]) == [[1, 2]]
    assert reader.answers(["A", "B"]) == [3, 4]
    # It finds likelier what it has just read.
    with torch.no_grad():
        read, other = reader.log_likelihoods([[1, 1, 3]], [[[1], [2]]])[0]
    assert read > other + 0.5
    with pytest.raises(UserError, match=r"are one token of"):
        reader.answers(["unknown", "neither"])


def test_what_is_no_causal_decoder_or_has_no_tokenizer_is_refused(encoder, stored_llama):
    with pytest.raises(UserError, match="is no causal decoder, so it predicts no next token"):
        TextReader(BackboneConfig(backbone=str(encoder("bert")), n_layers=1), 8, learns=False)
    with pytest.raises(UserError, match="prompts need the tokenizer of"):
        TextReader(BackboneConfig(backbone=str(stored_llama), n_layers=1), 8, learns=False)
    with pytest.raises(UserError, match=r"set model.prompt=none"):
        TextReader(BackboneConfig(**TINY, prompt="learned"), 8, learns=False)
