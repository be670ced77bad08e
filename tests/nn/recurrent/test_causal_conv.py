"""The causal convolution and the gated projection, whose gradients are written by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from recbench.nn.recurrent.causal_conv import CausalConv
from recbench.nn.recurrent.gated_projection import GatedProjection


@pytest.mark.parametrize("length", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("taps", [1, 2, 4])
def test_it_is_conv1d_with_its_future_cut_off(length, taps):
    conv = CausalConv(3, taps).double()
    x = torch.randn(2, length, 3, dtype=torch.float64, requires_grad=True)
    padded = F.pad(x.transpose(1, 2), (taps - 1, 0))
    wanted = F.conv1d(padded, conv.weight[:, None], conv.bias, groups=3).transpose(1, 2)
    got = conv(x)
    torch.testing.assert_close(got, wanted)
    weights = torch.randn_like(got)
    inputs = (x, conv.weight, conv.bias)
    for mine, right in zip(
        torch.autograd.grad(got, inputs, weights), torch.autograd.grad(wanted, inputs, weights), strict=True
    ):
        torch.testing.assert_close(mine, right)


def test_a_convolution_by_hand():
    conv = CausalConv(1, 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[10.0, 1.0]]))
        conv.bias.fill_(100.0)
    y = conv(torch.tensor([1.0, 2.0, 3.0])[None, :, None])
    assert y.flatten().tolist() == [101.0, 112.0, 123.0]


def test_a_slice_of_a_wider_tensor_is_read_right():
    conv = CausalConv(4, 3)
    wide = torch.randn(2, 6, 9)
    torch.testing.assert_close(conv(wide[..., 2:6]), conv(wide[..., 2:6].contiguous()))


def plain(module, y, z):
    """The gated projection, as its formula stands."""
    gated = y.flatten(2) * F.silu(z)
    normed = gated * torch.rsqrt(gated.square().mean(-1, keepdim=True) + module.eps)
    return module.linear(normed * module.norm_weight)


@pytest.mark.parametrize("heads_first", [False, True])
def test_the_gated_projection_is_its_formula(heads_first):
    torch.manual_seed(0)
    module = GatedProjection(6, 4, 1e-3).double()
    with torch.no_grad():
        module.norm_weight.uniform_(0.5, 2.0)
    y = torch.randn(2, 3, 5, 2, dtype=torch.float64).transpose(1, 2)
    y = (y if heads_first else y.contiguous()).requires_grad_()
    z = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    inputs = (y, z, *module.parameters())
    got, wanted = module(y, z), plain(module, y, z)
    torch.testing.assert_close(got, wanted)
    weights = torch.randn_like(got)
    for mine, right in zip(
        torch.autograd.grad(got, inputs, weights), torch.autograd.grad(wanted, inputs, weights), strict=True
    ):
        torch.testing.assert_close(mine, right)
