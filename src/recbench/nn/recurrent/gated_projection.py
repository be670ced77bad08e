"""The end of a Mamba-2 layer: gate, root-mean-square norm and output map, as one operation.

    g = y silu(z),   out = (norm_weight g / sqrt(mean g^2 + eps)) W^T + bias

A row's norm is one number, so it is divided out after the product, where the row is narrower, and the gradients are written out: left to
autograd this cheap formula costs as much as the matrix products around it.

Shapes: y [B, L, H, P] in any memory layout, z [B, L, E] with E = H P, W [D, E], out [B, L, D].
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class GatedProjection(nn.Module):
    """(y [B, L, H, P], the gate before its SiLU z [B, L, H P]) -> [B, L, D]."""

    def __init__(self, inner: int, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.norm_weight = nn.Parameter(torch.ones(inner))
        self.linear = nn.Linear(inner, hidden_size)
        self.eps = eps

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        dtype = torch.promote_types(y.dtype, torch.float32)
        with torch.autocast(y.device.type, enabled=False):
            parts = (value.to(dtype) for value in (y, z, self.norm_weight, self.linear.weight, self.linear.bias))
            return _GatedProjection.apply(*parts, self.eps).to(y.dtype)


class _GatedProjection(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, z: Tensor, norm_weight: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> Tensor:
        gated = F.silu(z)
        gated.view(y.shape).mul_(y)
        inverse = torch.linalg.vector_norm(gated, dim=-1, keepdim=True)
        inverse = inverse.square_().div_(z.shape[-1]).add_(eps).rsqrt_()
        out = (gated @ (weight * norm_weight).T).mul_(inverse).add_(bias)
        ctx.save_for_backward(y, z, norm_weight, weight, bias, gated, inverse, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, z, norm_weight, weight, bias, gated, inverse, out = ctx.saved_tensors
        grad, inner = grads[0], z.shape[-1]
        scaled = grad * inverse
        by_product = scaled.flatten(0, -2).T @ gated.flatten(0, -2)  # [D, E], by weight * norm_weight
        # The norm's part needs sum_e of by_gated g, which is the sum_d of grad (out - bias): half as wide.
        common = (grad * (out - bias)).sum(-1, keepdim=True).mul_(inverse.square()).div_(inner)
        by_gated = (scaled @ (weight * norm_weight)).addcmul_(gated, common, value=-1.0)
        per_head = by_gated.view(y.shape)
        by_y = torch.ops.aten.silu.out(z.view(y.shape), out=torch.empty_like(y)).mul_(per_head)  # laid out as y is
        per_head.mul_(y)
        by_z = torch.ops.aten.silu_backward.grad_input(by_gated, z, grad_input=by_gated)
        by_bias = grad.flatten(0, -2).sum(0)
        return by_y, by_z, (by_product * weight).sum(0), by_product * norm_weight, by_bias, None
