"""How evenly unit vectors lie on the sphere [Wang and Isola, ICML 2020], with the gradient made in the same pass over the pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbench.nn.losses.buffers import workspace
from recbench.nn.losses.forward_gradients import MadeGradients

#: Pairs that are held at a time: 4 MB, which stays in a core's cache.
PAIRS_AT_ONCE = 1 << 20


def uniformity(x: Tensor) -> Tensor:
    """x [B, D] of length 1, B at least 2 -> scalar: log mean exp(-2 |x_a - x_b|^2) over the pairs a < b. Its gradient can be taken once."""
    made: Tensor = _Uniformity.apply(x)
    return made


class _Uniformity(MadeGradients):
    """|a - b|^2 = 2 - 2 a.b, so a pair counts e = exp(4 a.b - 4). With Z their sum, the gradient of log Z at x_a is 4 / Z times the sum of e x_b.

    Each pair is computed once: rows against themselves and all behind them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        vectors, n = x.detach().float(), len(x)
        rows = max(1, min(n, PAIRS_AT_ONCE // n))
        gradient = torch.zeros_like(vectors)
        buffer = workspace(rows * n, torch.float32, x.device, "pairs")
        shift = torch.full((), -4.0, device=x.device)
        parts = []
        with torch.autocast(x.device.type, enabled=False):
            for first in range(0, n, rows):
                own, rest = vectors[first : first + rows], vectors[first:]
                close = buffer[: len(own) * len(rest)].view(len(own), len(rest))
                torch.addmm(shift, own, rest.T, alpha=4.0, out=close).exp_()
                close[:, : len(own)].triu_(1)
                parts.append(close.sum())
                gradient[first : first + rows] += close @ rest
                gradient[first:] += close.T @ own
        total = torch.stack(parts).sum()
        ctx.grads = (gradient.mul_(4.0 / total).to(x.dtype),)
        return (total * 2.0 / (n * (n - 1))).log().to(x.dtype)
