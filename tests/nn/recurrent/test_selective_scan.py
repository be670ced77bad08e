"""The selective scan: its loop against the definition, and the whole Mamba layer against transformers' own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbench.nn.recurrent.mamba_mixer import MambaMixer
from recbench.nn.recurrent.selective_scan import fused_kernel, selective_scan


def inputs(length, seed=0, rows=2, channels=3, state=4, dtype=torch.float64, rate=1.0, device="cpu"):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    parts = (
        draw(rows, length, channels),
        draw(rows, length, channels).exp(),
        -rate * draw(channels, state).exp(),
        draw(rows, length, state),
        draw(rows, length, state),
        draw(channels),
    )
    return [part.to(device).requires_grad_() for part in parts]


def value_and_gradients(form, parts):
    y = selective_scan(*parts, form=form)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64).to(y)
    return y.detach(), torch.autograd.grad(y, parts, weights, allow_unused=True, materialize_grads=True)


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 12), seed=st.integers(0, 10**6), rate=st.sampled_from([0.01, 1.0, 50.0]))
def test_the_loop_is_the_definition(length, seed, rate):
    parts = inputs(length, seed, rate=rate)
    reference, wanted = value_and_gradients("recurrent", parts)
    y, gradients = value_and_gradients("loop", parts)
    for mine, right in zip((y, *gradients), (reference, *wanted), strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-10, atol=1e-10)


def test_a_scan_by_hand():
    one = torch.ones(1, 3, 1)
    rate = torch.tensor([[0.5]]).log()
    y = selective_scan(torch.tensor([[[1.0], [2.0], [4.0]]]), one, rate, one, 10 * one, torch.tensor([100.0]))
    # states 1, 0.5 + 2, 1.25 + 4
    torch.testing.assert_close(y.flatten(), torch.tensor([110.0, 225.0, 452.5]))


def test_what_comes_later_changes_nothing_before():
    parts = [part.detach() for part in inputs(8)]
    changed = [part.clone() for part in parts]
    for k in (0, 1, 3, 4):
        changed[k][:, 5:] *= 2.0
    assert torch.equal(selective_scan(*parts)[:, :5], selective_scan(*changed)[:, :5])


def test_extreme_decays_stay_finite():
    parts = inputs(6, dtype=torch.float32)
    with torch.no_grad():
        parts[1][:, 2] = 1e30
        parts[2][0] = -1e9
    y, gradients = value_and_gradients("loop", parts)
    assert not y.isnan().any()
    assert not any(part.isnan().any() for part in gradients)


def test_wrong_requests_are_refused():
    with pytest.raises(ValueError, match="unknown form 'lop'"):
        selective_scan(*inputs(2), form="lop")
    with pytest.raises(RuntimeError, match="needs a CUDA device"):
        selective_scan(*inputs(2), form="fused")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available() or fused_kernel() is None, reason="needs CUDA and mamba-ssm")
def test_the_fused_kernel_agrees():
    parts = inputs(50, channels=64, state=16, dtype=torch.float32, rate=0.1, device="cuda")
    reference, wanted = value_and_gradients("recurrent", parts)
    y, gradients = value_and_gradients("fused", parts)
    for mine, right in zip((y, *gradients), (reference, *wanted), strict=True):
        assert (mine - right).abs().max() < 1e-3 * right.abs().max()


@pytest.fixture(scope="module")
def rival():
    """transformers' Mamba layer in plain torch, 32 wide, and ours with its weights."""
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer as Theirs

    torch.manual_seed(4)
    theirs = Theirs(MambaConfig(hidden_size=32, state_size=8, expand=2, num_hidden_layers=1, use_bias=False), 0).eval()
    ours = MambaMixer(32, expand=2, state_size=8, taps=4)
    with torch.no_grad():
        theirs.D.uniform_(0.5, 1.5)
        ours.input.weight.copy_(theirs.in_proj.weight[:64])
        ours.gate.weight.copy_(theirs.in_proj.weight[64:])
        ours.conv.weight.copy_(theirs.conv1d.weight[:, 0])
        ours.conv.bias.copy_(theirs.conv1d.bias)
        ours.select.weight.copy_(theirs.x_proj.weight)
        ours.step.load_state_dict(theirs.dt_proj.state_dict())
        ours.log_rate.copy_(theirs.A_log)
        ours.skip.copy_(theirs.D)
        ours.output.weight.copy_(theirs.out_proj.weight)
    return theirs, ours


@pytest.mark.parametrize("length", [1, 3, 37])
def test_the_whole_layer_is_that_of_transformers(rival, length):
    theirs, ours = rival
    u = torch.randn(2, length, 32, requires_grad=True)
    wanted, got = theirs(u), ours(u)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    weights = torch.randn_like(got)
    pairs = [
        (u, u),
        (ours.conv.weight, theirs.conv1d.weight),
        (ours.log_rate, theirs.A_log),
        (ours.step.bias, theirs.dt_proj.bias),
        (ours.select.weight, theirs.x_proj.weight),
    ]
    mine = torch.autograd.grad(got, [pair[0] for pair in pairs], weights)
    right = torch.autograd.grad(wanted, [pair[1] for pair in pairs], weights)
    for a, b in zip(mine, right, strict=True):
        assert (a - b.view_as(a)).abs().max() < 1e-4 * b.abs().max() + 1e-6


def test_the_decay_rates_start_as_published():
    assert torch.allclose(MambaMixer(8, 2, 4, 4).log_rate.exp(), torch.arange(1.0, 5.0).expand(16, 4))
