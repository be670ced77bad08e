"""The scan against the recurrence as it is written."""

from __future__ import annotations

import pytest
import torch

from recbench.nn.recurrent.linear_recurrence import LinearRecurrence, doubling_scan, step_by_step


def problem(length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(2, length, 6, dtype=torch.complex128, generator=generator)
    decay = torch.polar(
        torch.linspace(0.5, 0.999, 6, dtype=torch.float64), torch.linspace(0, 6, 6, dtype=torch.float64)
    )
    return inputs.requires_grad_(), decay.requires_grad_()


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 31, 64, 200])
def test_the_scan_is_the_recurrence(length):
    inputs, decay = problem(length)
    torch.testing.assert_close(doubling_scan(inputs, decay), step_by_step(inputs, decay))


@pytest.mark.parametrize("length", [2, 7, 8])
def test_so_are_its_gradients(length):
    inputs, decay = problem(length)
    weight = torch.randn_like(inputs.detach())
    for_scan = torch.autograd.grad((doubling_scan(inputs, decay) * weight).sum().abs(), (inputs, decay))
    for_loop = torch.autograd.grad((step_by_step(inputs, decay) * weight).sum().abs(), (inputs, decay))
    for mine, true in zip(for_scan, for_loop, strict=True):
        torch.testing.assert_close(mine, true)
    assert for_scan[1].abs().min() > 0


def test_no_position_reads_a_later_one():
    inputs, decay = problem(13)
    changed = inputs.detach().clone()
    changed[:, 6:] += 1.0
    found, other = doubling_scan(inputs, decay), doubling_scan(changed, decay)
    assert torch.equal(found[:, :6], other[:, :6])
    assert not torch.allclose(found[:, 6], other[:, 6])


def test_the_layer_is_its_complex_formula():
    torch.manual_seed(4)
    layer = LinearRecurrence(3).double()
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    channels = 6
    into = torch.complex(layer.enter.weight[:channels], layer.enter.weight[channels:])
    into_bias = torch.complex(layer.enter.bias[:channels], layer.enter.bias[channels:])
    out = torch.complex(layer.leave.weight[:, :channels], -layer.leave.weight[:, channels:])
    gamma = layer.log_gamma.exp()
    state, found = torch.zeros(2, channels, dtype=torch.complex128), []
    for t in range(5):
        state = layer.decay * state + gamma * (x[:, t].to(torch.complex128) @ into.T + into_bias)
        found.append((state @ out.T).real + layer.leave.bias)
    torch.testing.assert_close(layer(x), torch.stack(found, dim=1))


def test_the_decays_start_on_their_ring_and_can_never_leave_the_unit_disc():
    torch.manual_seed(0)
    layer = LinearRecurrence(400)
    radius = layer.decay.abs()
    assert radius.min() >= 0.8 - 1e-5
    assert radius.max() <= 0.99 + 1e-5
    # Uniform over the ring's area, so the mean of the squares is the middle of the squares.
    assert radius.square().mean().item() == pytest.approx((0.8**2 + 0.99**2) / 2, abs=0.02)
    torch.testing.assert_close(layer.log_gamma.exp(), (1 - radius**2).sqrt(), atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        layer.log_nu.fill_(-9.0)
    assert (layer.decay.abs() < 1).all()
