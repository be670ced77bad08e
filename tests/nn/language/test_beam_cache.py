"""Codes behind histories that are read once, against reading every history with every item's codes behind it, on decoders of several families."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbench.nn.decoding.beam import beam_search
from recbench.nn.decoding.causal import CausalHistory
from recbench.nn.decoding.exact import score_catalogue
from recbench.nn.decoding.trie import Trie
from recbench.nn.language.backbone import Backbone
from recbench.nn.language.backbone_config import BackboneConfig

SIZES = (3, 4, 2)
LENGTHS = torch.tensor([5, 2, 7])
FAMILIES = ["tiny", "llama", "gpt2", "gpt_neox", "qwen2", "mistral"]


@pytest.fixture(scope="module")
def codes():
    """[15, 3]: fourteen items of the twenty-four that could be, two of them alike."""
    every = torch.cartesian_prod(*(torch.arange(size) for size in SIZES))
    chosen = every[torch.randperm(24, generator=torch.Generator().manual_seed(1))[:13]]
    return torch.cat([torch.full((1, 3), -1), chosen, chosen[:1]])


@pytest.fixture(params=FAMILIES)
def parts(request, stored):
    """(backbone, vectors of three histories with noise behind their ends, table and heads of the codes)."""
    tiny = {"tiny_hidden_size": 16, "tiny_n_heads": 2, "tiny_feedforward_size": 24}
    name = "tiny" if request.param == "tiny" else str(stored(request.param))
    torch.manual_seed(4)
    backbone = Backbone(BackboneConfig(backbone=name, n_layers=2, **tiny), 20).eval()
    vectors = 0.5 * torch.randn(len(LENGTHS), int(LENGTHS.max()), backbone.width)
    table = nn.Embedding(sum(SIZES), backbone.width)
    heads = [nn.Linear(backbone.width, size, bias=False) for size in SIZES]
    return backbone.requires_grad_(False), vectors, table.requires_grad_(False), heads


def history(parts):
    backbone, vectors, table, heads = parts
    return CausalHistory(backbone, vectors, LENGTHS, table, heads, SIZES)


def one_by_one(parts, codes):
    """[3, 14] log-probabilities, each from a sequence of its own."""
    backbone, vectors, table, heads = parts
    out = torch.zeros(len(vectors), len(codes) - 1)
    for user, length in enumerate(LENGTHS.tolist()):
        for item, row in enumerate(codes[1:]):
            spelled = table(row + torch.tensor([0, 3, 7]))
            states = backbone.read(torch.cat([vectors[user, :length], spelled])[None])[0]
            for level, head in enumerate(heads):
                out[user, item] += head(states[length - 1 + level]).log_softmax(0)[row[level]].item()
    return out


@torch.no_grad()
@pytest.mark.parametrize("positions", [6, 1000])
def test_shared_histories_score_as_sequences_of_their_own(parts, codes, positions):
    scores = score_catalogue(history(parts), Trie.of(codes, SIZES), positions)
    torch.testing.assert_close(scores[:, 1:], one_by_one(parts, codes), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_so_do_attentions_that_take_their_mask_as_numbers(stored, codes):
    torch.manual_seed(4)
    backbone = Backbone(BackboneConfig(backbone=str(stored("llama")), n_layers=2), 20).eval().requires_grad_(False)
    heads = [nn.Linear(16, size, bias=False) for size in SIZES]
    parts = backbone, torch.randn(3, 7, 16), nn.Embedding(sum(SIZES), 16).requires_grad_(False), heads
    fused = score_catalogue(history(parts), Trie.of(codes, SIZES))
    backbone.model.set_attn_implementation("eager")
    torch.testing.assert_close(score_catalogue(history(parts), Trie.of(codes, SIZES)), fused, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_as_many_beams_as_items_rank_as_the_exact_scores_do(parts, codes):
    trie = Trie.of(codes, SIZES)
    leaf, found = beam_search(history(parts), trie, beams=14)
    items, found = trie.expand(leaf, found, 14)
    torch.testing.assert_close(found, score_catalogue(history(parts), trie).gather(1, items))
    assert items.sort(1).values.tolist() == [list(range(1, 15))] * 3


@torch.no_grad()
def test_a_state_may_be_continued_twice_and_no_history_is_repeated(parts):
    asked = history(parts)
    _, start = asked.first()
    parent, code = torch.zeros(3, 2, dtype=torch.int64), torch.tensor([[0, 1]] * 3)
    first, state = asked.next(start, parent, code)
    again, _ = asked.next(start, parent, code)
    assert torch.equal(first, again)
    # A beam that both descend from, and the other one: the same codes behind them are told apart by the mask alone.
    deeper, state = asked.next(state, torch.tensor([[0, 0, 1]] * 3), torch.tensor([[2, 2, 2]] * 3))
    torch.testing.assert_close(deeper[:, 0], deeper[:, 1], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(deeper[:, 0], deeper[:, 2])
    assert [tuple(key.shape[::2]) for key, _ in asked.layers] == [(3, 7)] * 2
    assert [tuple(key.shape[::2]) for key, _ in state[1].layers] == [(3, 5)] * 2
