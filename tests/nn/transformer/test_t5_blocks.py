"""Relative bias, and a decoder whose outputs share one history."""

from __future__ import annotations

import torch

from recbench.nn.transformer.t5_blocks import DecoderLayer, EncoderLayer, RelativeBias


def test_the_bias_depends_on_distance_and_side():
    torch.manual_seed(0)
    bias = RelativeBias(2, both_ways=True)(300)
    assert bias.shape == (1, 2, 300, 300)
    for offset in (-130, -9, -1, 0, 1, 9, 130):
        diagonal = bias[0].diagonal(offset, dim1=1, dim2=2)
        assert torch.equal(diagonal, diagonal[:, :1].expand_as(diagonal))
    assert not torch.equal(bias[0, :, 5, 6], bias[0, :, 6, 5])
    # Exact up to a quarter of the buckets, then together; all that is far is one.
    assert not torch.equal(bias[0, :, 0, 3], bias[0, :, 0, 4])
    assert torch.equal(bias[0, :, 0, 200], bias[0, :, 0, 299])


def test_one_way_the_bias_hides_what_comes_later():
    bias = RelativeBias(2, both_ways=False)(5)[0]
    later = torch.ones(5, 5, dtype=torch.bool).triu(1)
    assert (bias[:, later] == -torch.inf).all()
    assert bias[:, ~later].isfinite().all()


def parts(dropout=0.0):
    torch.manual_seed(1)
    layer = DecoderLayer(8, 2, 6, 16, dropout).eval()
    history = torch.randn(3, 7, 8)
    mask = torch.arange(7) < torch.tensor([7, 2, 5])[:, None]
    return layer, layer.cross_attention.keys(history), mask[:, None, None, :], RelativeBias(2, both_ways=False)


def test_outputs_side_by_side_are_those_one_by_one():
    layer, memory, mask, bias = parts()
    x = torch.randn(3, 4, 5, 8)
    together, _ = layer(x, bias(5), memory, mask)
    for t in range(4):
        alone, _ = layer(x[:, t : t + 1], bias(5), memory, mask)
        torch.testing.assert_close(together[:, t : t + 1], alone)


def test_position_by_position_with_kept_keys_is_all_at_once():
    layer, memory, mask, bias = parts()
    x = torch.randn(3, 4, 5, 8)
    whole, _ = layer(x, bias(5), memory, mask)
    past = None
    for s in range(5):
        out, past = layer(x[:, :, s : s + 1], bias(s + 1)[:, :, s:], memory, mask, past)
        torch.testing.assert_close(out[:, :, 0], whole[:, :, s], atol=1e-6, rtol=1e-5)


def test_what_the_mask_hides_does_not_matter():
    torch.manual_seed(2)
    layer = EncoderLayer(8, 2, 6, 16, 0.0).eval()
    x = torch.randn(2, 5, 8)
    bias = RelativeBias(2, both_ways=True)(5).masked_fill(torch.arange(5) >= 3, -torch.inf)
    changed = x.clone()
    changed[:, 3:] = 9.0
    torch.testing.assert_close(layer(x, bias)[:, :3], layer(changed, bias)[:, :3])
