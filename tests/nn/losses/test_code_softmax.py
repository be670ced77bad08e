"""The softmaxes over codes against the plain formula, all levels at once and padded, whose gradients autograd makes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from recbench.nn.losses import code_softmax as module
from recbench.nn.losses.code_softmax import code_log_probs, code_softmax

D, TEMPERATURE = 12, 0.05


def plain_log_probs(states, weight, bias, vectors, sizes):
    """[M, N, K]: -inf behind the end of a level with fewer than K codes."""
    code, sizes = torch.arange(max(sizes)), torch.tensor(sizes)
    real = code < sizes[:, None]
    token = (sizes.cumsum(0) - sizes)[:, None] + torch.where(real, code, 0)
    projected = states + F.silu(torch.baddbmm(bias, states.expand(len(weight), -1, -1), weight))
    logits = F.normalize(projected, dim=-1) @ F.normalize(vectors[token], dim=-1).transpose(1, 2)
    return (logits / TEMPERATURE).masked_fill(~real[:, None, :], -torch.inf).log_softmax(dim=-1)


def plain_loss(states, weight, bias, vectors, codes, sizes):
    return -plain_log_probs(states, weight, bias, vectors, sizes).gather(2, codes.T[..., None]).mean()


def example(sizes, n, seed=0):
    draw = torch.Generator().manual_seed(seed)
    shapes = [(n, D), (len(sizes), D, D), (len(sizes), 1, D), (sum(sizes), D)]
    parts = [torch.randn(shape, generator=draw).requires_grad_() for shape in shapes]
    codes = torch.stack([torch.randint(size, (n,), generator=draw) for size in sizes], dim=1)
    return parts, codes


@pytest.mark.parametrize("sizes", [(5,), (4, 4, 4), (3, 7, 2)])
@pytest.mark.parametrize("at_once", [1, 4, 64])
def test_loss_and_gradients_are_the_plain_ones(monkeypatch, sizes, at_once):
    monkeypatch.setattr(module, "STATES_AT_ONCE", at_once)
    parts, codes = example(sizes, 9)
    expected = plain_loss(*parts, codes, sizes)
    wanted = torch.autograd.grad(expected, parts)
    loss = code_softmax(*parts, codes, sizes, TEMPERATURE)
    torch.testing.assert_close(loss, expected)
    for own, other in zip(torch.autograd.grad(3 * loss, parts), wanted, strict=True):
        torch.testing.assert_close(own, 3 * other, rtol=1e-4, atol=1e-6)


def test_bfloat16_rounds_and_does_no_more():
    parts, codes = example((40, 40, 40), 300)
    expected = plain_loss(*parts, codes, (40, 40, 40))
    wanted = torch.autograd.grad(expected, parts)
    loss = code_softmax(*parts, codes, (40, 40, 40), TEMPERATURE, bfloat16=True)
    torch.testing.assert_close(loss, expected, rtol=2e-3, atol=2e-3)
    for own, other in zip(torch.autograd.grad(loss, parts), wanted, strict=True):
        assert own.dtype == torch.float32
        assert (own - other).norm() < 0.03 * other.norm()


def test_frozen_parts_get_no_gradient_and_no_loss_needs_one():
    (states, weight, bias, vectors), codes = example((4, 4), 6)
    vectors.requires_grad_(False)
    code_softmax(states, weight, bias, vectors, codes, (4, 4), TEMPERATURE).backward()
    assert vectors.grad is None
    assert states.grad is not None
    with torch.no_grad():
        assert code_softmax(states, weight, bias, vectors, codes, (4, 4), TEMPERATURE).ndim == 0


@pytest.mark.parametrize("sizes", [(4, 4), (3, 7, 2)])
def test_log_probabilities_stand_a_row_a_code(sizes):
    parts, _ = example(sizes, 5)
    found, expected = code_log_probs(*parts, sizes, TEMPERATURE), plain_log_probs(*parts, sizes)
    assert found.shape == (sum(sizes), 5)
    for level, own in enumerate(found.split(list(sizes))):
        torch.testing.assert_close(own.T, expected[level, :, : sizes[level]])
