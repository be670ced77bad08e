"""One softmax for each code of an item, each by a head of its own: the loss, and the log-probabilities that scores are made of.

    p = s + SiLU(s W_j + b_j),   log-probability of code k of level j = log softmax over k of (p . v_jk) / (|p| tau),  |v_jk| = 1

Level by level, so that what belongs to one level is used while it is in cache; no array holds all levels at once. The loss makes its gradients in
the same pass. With r = 1 / |p|, z = p v^T, y the one-hot target, and G = (softmax - y) r / tau:

    dv = G^T p,   dp = G v - p r^2 sum_k G_k z_k,   dh = dp SiLU'(h),   dW = s^T dh,   ds = sum over levels of dp + dh W^T

The length of p divides the product and not p itself, which saves a copy of p and one of its gradient.

Shapes: N states, D width, M levels, K_j codes of level j, T = sum of K_j.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.nn.losses.buffers import workspace
from recbench.nn.losses.forward_gradients import MadeGradients

#: The shortest length that a vector is divided by, as in ``F.normalize``.
EPS = 1e-12
#: States that are taken at once: the arrays of one level then fit a core's share of the last cache.
STATES_AT_ONCE = 2048


def code_softmax(
    states: Tensor,
    weight: Tensor,
    bias: Tensor,
    vectors: Tensor,
    codes: Tensor,
    sizes: Sequence[int],
    temperature: float,
    bfloat16: bool = False,
) -> Tensor:
    """Mean over states and levels of -log p(code), a scalar.

    states [N, D], weight [M, D, D], bias [M, 1, D], vectors [T, D] of any length, level after level, codes [N, M] within their levels, sizes: K_j.
    With ``bfloat16`` the products and what lies between them are rounded to it; sums over states and levels stay in float32.
    """
    with torch.autocast(states.device.type, enabled=False):
        directions = F.normalize(vectors.float(), dim=-1, eps=EPS)
        return _CodeSoftmax.apply(states.float(), weight, bias, directions, codes, tuple(sizes), temperature, bfloat16)


def code_log_probs(
    states: Tensor, weight: Tensor, bias: Tensor, vectors: Tensor, sizes: Sequence[int], temperature: float
) -> Tensor:
    """[T, N] log-probabilities of every code, level after level: a row a code, so that an item gathers whole rows. Shapes as ``code_softmax``."""
    directions = F.normalize(vectors, dim=-1, eps=EPS)
    rows = []
    for level, own in enumerate(directions.split(list(sizes))):
        p = states + F.silu(torch.addmm(bias[level], states, weight[level]))
        scale = temperature * torch.linalg.vector_norm(p, dim=-1).clamp_min(EPS)
        rows.append((own @ p.T / scale).float().log_softmax(dim=0))
    return torch.cat(rows)


class _CodeSoftmax(MadeGradients):
    """See the head of this file. ``vectors`` are of length 1 here."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor,
        vectors: Tensor,
        codes: Tensor,
        sizes: tuple[int, ...],
        temperature: float,
        bfloat16: bool,
    ) -> Tensor:
        kind = torch.bfloat16 if bfloat16 else states.dtype
        wanted = any(ctx.needs_input_grad[:4])
        grads = tuple(torch.zeros_like(x) for x in (states, weight, bias, vectors)) if wanted else None
        scale = 1.0 / max(codes.numel(), 1)
        narrow = vectors.detach().to(kind).split(list(sizes))
        losses = []
        for first in range(0, len(states), STATES_AT_ONCE):
            rows = slice(first, first + STATES_AT_ONCE)
            own = states[rows].detach().to(kind)
            for level, directions in enumerate(narrow):
                matrix, offset = weight[level].detach().to(kind), bias[level].detach().to(kind)
                made = _Level(own, matrix, offset, directions, temperature)
                losses.append(made.loss(codes[rows, level], scale))
                if grads is not None:
                    start = sum(sizes[:level])
                    parts = (grads[0][rows], grads[1][level], grads[2][level], grads[3][start : start + sizes[level]])
                    made.add_gradients(*parts)
        ctx.grads = grads
        return torch.stack(losses).sum() * scale if losses else states.sum()


class _Level:
    """One level of some states: its loss, then its gradients. The arrays lie in buffers that the next level takes over."""

    def __init__(self, states: Tensor, weight: Tensor, bias: Tensor, vectors: Tensor, temperature: float) -> None:
        self.states, self.weight, self.vectors = states, weight, vectors
        self.inner = _buffer("inner", states, states.shape[1])
        self.p = _buffer("projected", states, states.shape[1])
        self.z = _buffer("products", states, len(vectors))
        self.logits = _buffer("logits", states, len(vectors))
        torch.addmm(bias, states, weight, out=self.inner)
        torch.ops.aten.silu.out(self.inner, out=self.p)
        self.p += states
        self.reach = torch.linalg.vector_norm(self.p, dim=-1, keepdim=True, dtype=torch.float32).clamp_min_(EPS)
        self.per_logit = (1.0 / (self.reach * temperature)).to(states.dtype)
        torch.mm(self.p, vectors.T, out=self.z)
        torch.mul(self.z, self.per_logit, out=self.logits)

    def loss(self, codes: Tensor, scale: float) -> Tensor:
        """Sum over the states of -log p(code); leaves in ``logits`` the gradient by the products, times ``scale``."""
        p, row = self.logits, torch.arange(len(codes), device=codes.device)
        chosen = p[row, codes].float()
        total = torch.logsumexp(p, dim=1).float() if p.dtype != torch.bfloat16 else None
        torch.ops.aten._softmax.out(p, -1, False, out=p)
        probability = p[row, codes].float()
        p.index_put_((row, codes), (probability - 1.0).to(p.dtype))
        p *= self.per_logit
        p *= scale
        if total is not None:
            return (total - chosen).sum()
        return -probability.clamp_min(torch.finfo(torch.float32).tiny).log().sum()

    def add_gradients(self, states: Tensor, weight: Tensor, bias: Tensor, vectors: Tensor) -> None:
        """Add to the gradients by the states [n, D], the head [D, D] and [1, D], and the vectors [K, D]."""
        by_product = self.logits
        vectors += by_product.T @ self.p
        along = torch.linalg.vecdot(by_product, self.z)[:, None] / self.reach.square()
        by_p = _buffer("gradient", self.states, self.p.shape[1])
        torch.mm(by_product, self.vectors, out=by_p)
        by_p.addcmul_(self.p, along.to(by_p.dtype), value=-1)
        states += by_p
        by_inner = torch.ops.aten.silu_backward.grad_input(by_p, self.inner, grad_input=self.p)
        weight += self.states.T @ by_inner
        bias += by_inner.sum(0, dtype=torch.float32)
        states += torch.mm(by_inner, self.weight.T, out=by_p)


def _buffer(name: str, like: Tensor, width: int) -> Tensor:
    """[rows of ``like``, width], kept from step to step."""
    rows = len(like)
    return workspace(rows * width, like.dtype, like.device, f"codes {name}")[: rows * width].view(rows, width)
