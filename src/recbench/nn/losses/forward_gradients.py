"""Losses whose gradients are made in the forward pass, where what they are made of is still in cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class MadeGradients(torch.autograd.Function):
    """The backward pass of such a loss: ``forward`` leaves ``ctx.grads``, one for each of its first inputs, None where none is wanted.

    They are scaled in place and given away, so the gradients can be taken once.
    """

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.grads is None:
            raise RuntimeError("the gradients of this loss can be taken once only; compute the loss again")
        given = tuple(None if g is None else g.mul_(grads[0]) for g in ctx.grads)
        ctx.grads = None
        return given + (None,) * (len(ctx.needs_input_grad) - len(given))


def surprise(probability: Tensor) -> Tensor:
    """-log of probabilities in float32; finite for one that came out as 0."""
    return -probability.clamp_min(torch.finfo(torch.float32).tiny).log()
