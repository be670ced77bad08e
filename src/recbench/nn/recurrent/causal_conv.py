"""Causal depthwise convolution over positions, as state-space layers put before their recurrence.

    y[t, c] = bias[c] + sum over k of weight[c, k] x[t - (K - 1) + k, c]        (positions before the first are 0)

Shapes: B rows, L positions, C channels, K taps (the last one reads the position itself).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class CausalConv(nn.Module):
    """Each channel is filtered on its own; position t sees t and the ``taps - 1`` positions before it. [B, L, C] -> [B, L, C]."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, taps))
        self.bias = nn.Parameter(torch.empty(channels))
        bound = 1.0 / math.sqrt(taps)  # as torch starts a depthwise Conv1d
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if x.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                return _CausalConvOnCPU.apply(x, weight, bias)
        padded = F.pad(x.transpose(1, 2), (weight.shape[1] - 1, 0))
        return F.conv1d(padded, weight[:, None], bias, groups=weight.shape[0]).transpose(1, 2)


class _CausalConvOnCPU(torch.autograd.Function):
    """The same, for a CPU, with the gradients written out.

    [B, L, C] as it lies in memory is an image of height 1 whose channels come last, which torch convolves ten times faster than the
    transposed copy that Conv1d needs. Its gradient by the weights is slow in either layout; here it is K products and sums.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)[:, : x.shape[1]]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad, taps, length = grads[0], weight.shape[1], x.shape[1]
        per_tap = []
        for back in reversed(range(taps)):
            reach = max(length - back, 0)
            per_tap.append((grad[:, length - reach :] * x[:, :reach]).sum((0, 1)))
        # The gradient runs the other way in time: from a position to those that it read.
        by_x = _convolve(grad, weight.flip(1), None)[:, taps - 1 :]
        return by_x, torch.stack(per_tap, dim=1), grad.sum((0, 1))


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [B, L, C], weight [C, K] -> [B, L + K - 1, C]: every window of K positions that touches x."""
    image = x.transpose(1, 2)[:, :, None]
    padding = (0, weight.shape[1] - 1)
    return F.conv2d(image, weight[:, None, None], bias, padding=padding, groups=weight.shape[0])[:, :, 0].transpose(
        1, 2
    )
