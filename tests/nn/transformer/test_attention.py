"""Attention and the blocks built of it, against their formulas written out position by position."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from recbench.nn.transformer.attention import (
    BidirectionalLayer,
    BidirectionalSelfAttention,
    CausalSelfAttention,
    TransformerLayer,
)
from recbench.nn.transformer.sasrec_blocks import LiGRLayer, OriginalLayer

B, L, D, HEADS, WIDE = 3, 5, 8, 2, 12
LENGTHS = torch.tensor([5, 2, 4])


@pytest.fixture
def x():
    return torch.randn(B, L, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def shaken(layer, seed=0):
    """The layer in float64 and evaluation mode, with no weight and no norm left at a value that hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    layer = layer.double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return layer


def attended(query, key, value, n_heads, sees):
    """Attention of one row by two loops: query, key, value [L, D]; sees(i) -> the positions that i may read."""
    size = query.shape[1] // n_heads
    out = torch.zeros_like(query)
    for head in range(n_heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(query)):
            seen = list(sees(i))
            weights = torch.stack([query[i, part] @ key[j, part] / math.sqrt(size) for j in seen]).softmax(0)
            out[i, part] = sum(w * value[j, part] for w, j in zip(weights, seen, strict=True))
    return out


def row_by_row(x, function):
    return torch.stack([function(row, b) for b, row in enumerate(x)])


def test_causal_attention_reads_positions_up_to_its_own(x):
    layer = shaken(CausalSelfAttention(D, HEADS, 0.0))

    def by_hand(row, _):
        query, key, value = layer.query_key_value(row).chunk(3, dim=-1)
        return layer.output(attended(query, key, value, HEADS, lambda i: range(i + 1)))

    torch.testing.assert_close(layer(x), row_by_row(x, by_hand))


def test_bidirectional_attention_reads_all_real_positions_and_no_other(x):
    layer = shaken(BidirectionalSelfAttention(D, HEADS, 0.0))
    real = torch.arange(L) < LENGTHS[:, None]

    def by_hand(row, b):
        query, key, value = layer.query_key_value(row).chunk(3, dim=-1)
        return layer.output(attended(query, key, value, HEADS, lambda i: range(LENGTHS[b])))

    torch.testing.assert_close(layer(x, real), row_by_row(x, by_hand))


def test_the_bidirectional_block_norms_after_each_addition(x):
    layer = shaken(BidirectionalLayer(D, HEADS, WIDE, 0.0))
    real = torch.arange(L) < LENGTHS[:, None]
    y = layer.attention_norm(x + layer.attention(x, real))
    expected = layer.feedforward_norm(y + layer.contract(F.gelu(layer.expand(y))))
    torch.testing.assert_close(layer(x, real), expected)


def test_the_original_block_adds_the_normed_query_and_reads_plain_keys_and_values(x):
    layer = shaken(OriginalLayer(D, HEADS, WIDE, 0.0))

    def by_hand(row, _):
        query = layer.attention_norm(row)
        key, value = layer.key_value(row).chunk(2, dim=-1)  # of the row as it came
        row = query + attended(layer.query(query), key, value, HEADS, lambda i: range(i + 1))
        row = layer.feedforward_norm(row)
        return row + layer.contract(torch.relu(layer.expand(row)))

    torch.testing.assert_close(layer(x), row_by_row(x, by_hand))


def test_the_ligr_block_is_its_formula(x):
    layer = shaken(LiGRLayer(D, HEADS, WIDE, 0.0))
    first, second = layer.expand.weight.chunk(2)
    gate = torch.sigmoid(x @ layer.attention_gate.weight.T + layer.attention_gate.bias)
    y = x + gate * layer.attention(layer.attention_norm(x))
    normed = layer.feedforward_norm(y)
    opening = normed @ first.T
    inner = (opening / (1 + torch.exp(-opening)) * (normed @ second.T)) @ layer.contract.weight.T
    gate = torch.sigmoid(y @ layer.feedforward_gate.weight.T + layer.feedforward_gate.bias)
    torch.testing.assert_close(layer(x), y + gate * inner)


@pytest.mark.parametrize("kind", [TransformerLayer, OriginalLayer, LiGRLayer])
def test_no_causal_block_sees_the_future(kind, x):
    layer = shaken(kind(D, HEADS, WIDE, 0.0))
    later = x.clone()
    later[:, 3:] += 1.0
    torch.testing.assert_close(layer(later)[:, :3], layer(x)[:, :3])
    assert not torch.allclose(layer(later)[:, 3], layer(x)[:, 3])


@pytest.mark.parametrize("kind", [TransformerLayer, OriginalLayer, LiGRLayer])
def test_dropout_acts_while_training_only(kind, x):
    layer = shaken(kind(D, HEADS, WIDE, 0.5))
    assert torch.equal(layer(x), layer(x))
    layer.train()
    torch.manual_seed(0)
    assert not torch.allclose(layer(x), layer(x))
