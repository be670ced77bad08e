"""The SSD recurrence: its forms against each other, and the whole Mamba-2 layer against transformers' own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbench.nn.recurrent.ssd_mixer import SSDMixer
from recbench.nn.recurrent.state_space import decay_mask, fused_kernel, recurrent, ssd, ssd_at
from recbench.nn.transformer.attention import at_position

NAMES = ("x", "step", "log_decay", "b", "c", "skip")


def inputs(length, seed=0, rows=2, heads=2, width=3, state=4, dtype=torch.float64, decay=1.0, device="cpu"):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    parts = (
        draw(rows, length, heads, width),
        draw(rows, length, heads).exp(),
        -decay * draw(rows, length, heads).exp(),
        draw(rows, length, state),
        draw(rows, length, state),
        draw(heads),
    )
    return [part.to(device).requires_grad_() for part in parts]


def value_and_gradients(form, parts, chunk=4):
    y = ssd(*parts, form=form, chunk=chunk)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64).to(y)
    # A single position has no decay, so the reference's graph may lack one.
    return y.detach(), torch.autograd.grad(y, parts, weights, allow_unused=True, materialize_grads=True)


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 33),
    chunk=st.integers(1, 40),
    seed=st.integers(0, 10**6),
    decay=st.sampled_from([0.0, 0.01, 1.0, 30.0]),
)
def test_the_forms_agree_in_values_and_gradients(length, chunk, seed, decay):
    parts = inputs(length, seed, decay=decay)
    reference, wanted = value_and_gradients("recurrent", parts)
    for form in ("dense", "chunked"):
        y, gradients = value_and_gradients(form, parts, chunk)
        torch.testing.assert_close(y, reference, rtol=1e-10, atol=1e-10)
        for name, mine, right in zip(NAMES, gradients, wanted, strict=True):
            torch.testing.assert_close(
                mine, right, rtol=1e-9, atol=1e-9, msg=lambda m, n=name, f=form: f"{f}, {n}: {m}"
            )


@pytest.mark.parametrize("form", ["dense", "chunked"])
def test_in_float32_the_forms_agree_to_rounding(form):
    for decay in (0.02, 2.0):
        parts = inputs(150, dtype=torch.float32, decay=decay)
        reference, wanted = value_and_gradients(
            "recurrent", [part.detach().double().requires_grad_() for part in parts]
        )
        y, gradients = value_and_gradients(form, parts, 28)
        for mine, right in zip((y, *gradients), (reference, *wanted), strict=True):
            assert (mine.double() - right).abs().max() < 3e-6 * right.abs().max()


@settings(max_examples=30, deadline=None)
@given(length=st.integers(2, 20), at=st.integers(0, 19), form=st.sampled_from(["recurrent", "dense", "chunked"]))
def test_what_comes_later_changes_nothing_before(length, at, form):
    at %= length
    parts = [part.detach() for part in inputs(length)]
    changed = [part.clone() for part in parts]
    for part in changed[:-1]:
        part[:, at:] *= 3.0
    before, after = (ssd(*given, form=form, chunk=4) for given in (parts, changed))
    assert torch.equal(before[:, :at], after[:, :at])
    assert not torch.allclose(before[:, at], after[:, at])


@pytest.mark.parametrize("form", ["recurrent", "dense", "chunked"])
def test_extreme_decays_neither_overflow_nor_spoil_small_ones(form):
    parts = inputs(20, dtype=torch.float32)
    with torch.no_grad():
        parts[2][:, 3] = -1e30
        parts[2][:, 7] = -torch.inf
        parts[2][:, 11] = -500.0
        parts[2][:, 12] = 0.0
    y, gradients = value_and_gradients(form, parts)
    assert all(part.isfinite().all() for part in (y, *gradients))
    # A decay that leaves nothing is a fresh start, whatever stood before it.
    fresh = [part.detach()[:, 11:] for part in parts[:-1]] + [parts[-1].detach()]
    torch.testing.assert_close(y[:, 11:], recurrent(*fresh), rtol=1e-5, atol=1e-5)


def test_the_mask_is_the_product_of_decays_between():
    step, log_decay = torch.tensor([2.0, 3.0, 5.0])[None, :, None], torch.tensor([0.9, 0.5, 0.1]).log()[None, :, None]
    wanted = torch.tensor([[2.0, 0, 0], [1.0, 3.0, 0], [0.1, 0.3, 5.0]])
    torch.testing.assert_close(decay_mask(step, log_decay)[0, 0], wanted)


def test_a_missing_skip_is_none():
    parts = inputs(9)
    with_zero = [*parts[:-1], torch.zeros(2, dtype=torch.float64)]
    for form in ("recurrent", "chunked"):
        assert torch.equal(ssd(*parts[:-1], form=form, chunk=4), ssd(*with_zero, form=form, chunk=4))


@pytest.mark.parametrize("with_skip", [True, False])
def test_one_position_of_each_row_is_what_the_whole_gives_there(with_skip):
    x, step, log_decay, b, c, skip = inputs(length=9, rows=4)
    skip = skip if with_skip else None
    at = torch.tensor([0, 8, 3, 5])

    def alone():
        return ssd_at(at, x, step, log_decay, b, at_position(c, at), skip)

    def whole():
        return at_position(ssd(x, step, log_decay, b, c, skip, form="recurrent"), at)

    parts = [part for part in (x, step, log_decay, b, c, skip) if part is not None]
    torch.testing.assert_close(alone(), whole())
    got, wanted = (torch.autograd.grad(y().square().sum(), parts) for y in (alone, whole))
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(("length", "form"), [(64, "dense"), (65, "chunked"), (200, "chunked")])
def test_the_form_follows_the_length(length, form):
    parts = inputs(length, rows=1)
    assert torch.equal(ssd(*parts), ssd(*parts, form=form))


def test_autocast_leaves_the_recurrence_in_float32():
    parts = inputs(40, dtype=torch.float32)
    plain, wanted = value_and_gradients("chunked", parts)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, gradients = value_and_gradients("chunked", parts)
    assert y.dtype == torch.float32
    assert all(torch.equal(mine, right) for mine, right in zip((y, *gradients), (plain, *wanted), strict=True))


def test_wrong_requests_are_refused():
    parts = inputs(3)
    with pytest.raises(ValueError, match="unknown form 'dence'"):
        ssd(*parts, form="dence")
    with pytest.raises(RuntimeError, match="needs a CUDA device"):
        ssd(*parts, form="fused")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_plain_forms_agree_on_a_gpu():
    parts = inputs(150, device="cuda")
    reference, wanted = value_and_gradients("recurrent", parts)
    for form in ("dense", "chunked"):
        y, gradients = value_and_gradients(form, parts, 28)
        for mine, right in zip((y, *gradients), (reference, *wanted), strict=True):
            torch.testing.assert_close(mine, right, rtol=1e-9, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or fused_kernel() is None, reason="needs CUDA and flash-linear-attention"
)
@pytest.mark.parametrize("length", [50, 200])
def test_the_fused_kernel_agrees(length):
    parts = inputs(length, heads=4, width=32, state=32, dtype=torch.float32, decay=0.1, device="cuda")
    reference, wanted = value_and_gradients("recurrent", parts)
    y, gradients = value_and_gradients("fused", parts)
    for mine, right in zip((y, *gradients), (reference, *wanted), strict=True):
        # TF32 products: ten bits of mantissa.
        assert (mine - right).abs().max() < 1e-2 * right.abs().max()


@pytest.fixture(scope="module")
def rival():
    """transformers' Mamba-2 layer in plain torch, 24 wide, and ours with its weights."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    torch.manual_seed(4)
    config = Mamba2Config(
        num_heads=3, head_dim=16, hidden_size=24, state_size=8, expand=2, n_groups=1, chunk_size=16, use_bias=True,
        num_hidden_layers=1, layer_norm_epsilon=1e-5,
    )  # fmt: skip
    theirs = Mamba2Mixer(config, layer_idx=0).eval()
    ours = SSDMixer(24, expand=2, head_size=16, state_size=8, taps=4)
    sizes = [48, 64, 3]
    with torch.no_grad():
        for part in (theirs.norm.weight, theirs.D):
            part.uniform_(0.5, 1.5)
        for linear, weight, bias in zip(
            (ours.gate, ours.input, ours.step),
            theirs.in_proj.weight.split(sizes),
            theirs.in_proj.bias.split(sizes),
            strict=True,
        ):
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
        ours.conv.weight.copy_(theirs.conv1d.weight[:, 0])
        ours.conv.bias.copy_(theirs.conv1d.bias)
        ours.log_rate.copy_(theirs.A_log)
        ours.step_bias.copy_(theirs.dt_bias)
        ours.skip.copy_(theirs.D)
        ours.output.norm_weight.copy_(theirs.norm.weight)
        ours.output.linear.weight.copy_(theirs.out_proj.weight)
        ours.output.linear.bias.copy_(theirs.out_proj.bias)
    return theirs, ours


@pytest.mark.parametrize("length", [1, 3, 37, 130])
def test_the_whole_layer_is_that_of_transformers(rival, length):
    theirs, ours = rival
    u = torch.randn(2, length, 24, requires_grad=True)
    wanted, got = theirs(u), ours(u)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    weights = torch.randn_like(got)
    pairs = [
        (u, u),
        (ours.conv.weight, theirs.conv1d.weight),
        (ours.log_rate, theirs.A_log),
        (ours.step_bias, theirs.dt_bias),
        (ours.skip, theirs.D),
        (ours.output.norm_weight, theirs.norm.weight),
        (ours.output.linear.weight, theirs.out_proj.weight),
    ]
    mine = torch.autograd.grad(got, [pair[0] for pair in pairs], weights)
    right = torch.autograd.grad(wanted, [pair[1] for pair in pairs], weights, allow_unused=True, materialize_grads=True)
    for a, b in zip(mine, right, strict=True):
        assert (a - b.view_as(a)).abs().max() < 1e-4 * b.abs().max() + 1e-6


def test_a_modulation_of_one_is_none_and_of_zero_forgets_the_input(rival):
    _, ours = rival
    u = torch.randn(2, 9, 24)
    torch.testing.assert_close(ours(u, torch.ones(2, 9, 3)), ours(u))
    without = SSDMixer(24, 2, 16, 8, 4)
    without.load_state_dict(ours.state_dict())
    torch.nn.init.zeros_(without.step.weight)
    torch.nn.init.zeros_(without.step.bias)
    torch.testing.assert_close(ours(u, torch.zeros(2, 9, 3)), without(u))


def test_the_layer_runs_under_autocast_with_gradients(rival):
    _, ours = rival
    u = torch.randn(2, 20, 24, requires_grad=True)
    exact = ours(u)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = ours(u)
        rough.float().sum().backward()
    assert rough.isfinite().all()
    assert u.grad is not None
    assert u.grad.isfinite().all()
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_the_layer_at_one_position_of_each_row():
    mixer = SSDMixer(hidden_size=8, expand=2, head_size=4, state_size=3, taps=4)
    u, modulation, at = torch.randn(3, 7, 8), torch.rand(3, 7, 4), torch.tensor([6, 0, 2])
    torch.testing.assert_close(mixer(u, modulation, at), at_position(mixer(u, modulation), at))


def test_heads_must_divide_the_inner_width():
    with pytest.raises(ValueError, match="48 is not a multiple of the head width 7"):
        SSDMixer(24, 2, 7, 8, 4)
