"""The selective scan of Mamba-1: a recurrence with one decay for each pair of channel and state [Gu and Dao, arXiv 2312.00752].

    h_t = exp(Delta_t A) h_{t-1} + Delta_t x_t B_t       E x N, zero before the first position;  A < 0, E x N
    y_t = h_t C_t + D x_t

Unlike SSD's, its decays cannot be drawn out of the sums, so there is no matrix form: N times as many exponentials as inputs, and a loop over
positions. The loop's blocks [B, E, N] fit in a processor's cache, which makes it faster there than scans over [B, L, E, N] in log(L) steps.

Glossary (paper -> here): Delta -> ``step``; A -> ``rate``; B, C -> ``b``, ``c``; D -> ``skip``.
Shapes: B rows, L positions, E channels, N width of the state of a channel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

FORMS = ("auto", "recurrent", "loop", "fused")


def selective_scan(
    x: Tensor, step: Tensor, rate: Tensor, b: Tensor, c: Tensor, skip: Tensor, form: str = "auto"
) -> Tensor:
    """x and step (positive) [B, L, E], rate (negative) [E, N], b and c [B, L, N], skip [E] -> y [B, L, E], in float32 at least.

    ``recurrent`` is the definition; ``loop`` the same with its gradients written out; ``fused`` mamba-ssm's kernel, which ``auto`` takes
    on CUDA where it is installed. Raises ValueError for an unknown form, RuntimeError for ``fused`` where there is no kernel.
    """
    if form not in FORMS:
        raise ValueError(f"unknown form '{form}' of the scan; known: {', '.join(FORMS)}")
    on_cuda = x.device.type == "cuda"
    if form == "auto":
        form = "fused" if on_cuda and fused_kernel() is not None else "loop"
    dtype = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        x, step, rate, b, c, skip = (value.to(dtype) for value in (x, step, rate, b, c, skip))
        if form == "recurrent":
            return recurrent(x, step, rate, b, c) + x * skip
        if form == "loop":
            return torch.addcmul(_Loop.apply(x * step, step, rate, b, c), x, skip)
        kernel = fused_kernel()
        if kernel is None or not on_cuda:
            raise RuntimeError("the fused scan needs a CUDA device and the package mamba-ssm")
        channels_first = [value.transpose(1, 2).contiguous() for value in (x, step)]
        y: Tensor = kernel(*channels_first, rate, b.transpose(1, 2).contiguous(), c.transpose(1, 2).contiguous(), skip)
        return y.transpose(1, 2)


def recurrent(x: Tensor, step: Tensor, rate: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The definition, without the skip."""
    state = x.new_zeros(x.shape[0], *rate.shape)
    outputs = []
    for t in range(x.shape[1]):
        decay = (step[:, t, :, None] * rate).exp()
        state = decay * state + (step[:, t] * x[:, t])[..., None] * b[:, t, None]
        outputs.append((state * c[:, t, None]).sum(-1))
    return torch.stack(outputs, dim=1)


@cache
def fused_kernel() -> Callable[..., Any] | None:
    """mamba-ssm's kernel for this scan, or None where it is not installed."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None
    return selective_scan_fn


class _Loop(torch.autograd.Function):
    """The recurrence on inputs that their step is multiplied into, [B, L, E]. Keeps the states, computes the decays again."""

    @staticmethod
    def forward(ctx: Any, fed: Tensor, step: Tensor, rate: Tensor, b: Tensor, c: Tensor) -> Tensor:
        length = fed.shape[1]
        states = fed.new_empty(length, fed.shape[0], *rate.shape)
        y = torch.empty_like(fed)
        decay = torch.empty_like(states[0])
        for t in range(length):
            torch.mul(fed[:, t, :, None], b[:, t, None], out=states[t])
            if t > 0:
                torch.mul(step[:, t, :, None], rate, out=decay).exp_()
                states[t].addcmul_(decay, states[t - 1])
            y[:, t] = (states[t] @ c[:, t, :, None])[..., 0]
        ctx.save_for_backward(fed, step, rate, b, c, states)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        fed, step, rate, b, c, states = ctx.saved_tensors
        grad = grads[0]
        by_fed, by_step = torch.empty_like(fed), torch.zeros_like(step)
        by_b, by_c = torch.empty_like(b), torch.empty_like(c)
        by_state, by_rate, work = torch.zeros_like(states[0]), torch.zeros_like(states[0]), torch.empty_like(states[0])
        with torch.autocast(fed.device.type, enabled=False):
            for t in reversed(range(fed.shape[1])):
                by_state.addcmul_(grad[:, t, :, None], c[:, t, None])
                by_c[:, t] = (grad[:, t, None] @ states[t])[:, 0]
                by_b[:, t] = (fed[:, t, None] @ by_state)[:, 0]
                by_fed[:, t] = (by_state @ b[:, t, :, None])[..., 0]
                if t > 0:
                    by_state.mul_(torch.mul(step[:, t, :, None], rate, out=work).exp_())  # by the state before
                    by_log = torch.mul(by_state, states[t - 1], out=work)  # by the logarithm of the decay
                    by_rate.addcmul_(by_log, step[:, t, :, None])
                    by_step[:, t] = by_log.mul_(rate).sum(-1)
        return by_fed, by_step, by_rate.sum(0), by_b, by_c
