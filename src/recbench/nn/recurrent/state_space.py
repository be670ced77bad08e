"""The state-space duality (SSD) recurrence of Mamba-2, in forms that agree to rounding [Dao and Gu, ICML 2024].

    S_t = exp(a_t) S_{t-1} + Delta_t x_t b_t^T      state, P x N a head, zero before the first position
    y_t = S_t c_t + D x_t

    recurrent   these two lines, one position after the other: the reference
    dense       y = (M o C B^T) x with the lower-triangular M_ij = exp(a_{j+1} + ... + a_i) Delta_j: best for short sequences
    chunked     dense inside chunks and the recurrence between them: its work grows linearly with the length
    fused       flash-linear-attention's simple_gla, the same recurrence as one kernel: on CUDA, where it is installed

Decays are multiplied, or their logarithms added, from each position on, and never divided nor subtracted: whatever the decays, no number
overflows and no small decay is lost behind a large one. Everything is computed in float32 at least, whatever autocast says.

Glossary (paper -> here): Delta -> ``step``; a_t = Delta_t A -> ``log_decay``; B, C -> ``b``, ``c`` (one group: all heads share them); D -> ``skip``;
L (the 1-semiseparable mask) with Delta in its columns -> ``decay_mask``.

Shapes: B rows, L positions, H heads, P width of a head, N width of the state, n chunks of Q positions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbench.nn.transformer.attention import at_position

#: Sequences up to this length are dense, longer ones are cut into chunks of at most CHUNK: what is fastest on a CPU.
DENSE_LENGTH = 64
CHUNK = 28

FORMS = ("auto", "recurrent", "dense", "chunked", "fused")


def ssd(
    x: Tensor,
    step: Tensor,
    log_decay: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None = None,
    form: str = "auto",
    chunk: int = CHUNK,
) -> Tensor:
    """x [B, L, H, P], step (positive) and log_decay (at most 0) [B, L, H], b and c [B, L, N], skip [H] or none -> y [B, L, H, P].

    ``auto`` takes the fused kernel where there is one, else ``dense`` for short sequences and ``chunked`` for long ones. Raises ValueError
    for an unknown form, RuntimeError for ``fused`` where there is no kernel.
    """
    if form not in FORMS:
        raise ValueError(f"unknown form '{form}' of the recurrence; known: {', '.join(FORMS)}")
    if form == "auto":
        fused = x.device.type == "cuda" and fused_kernel() is not None
        form = "fused" if fused else "dense" if x.shape[1] <= DENSE_LENGTH else "chunked"
    dtype = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        x, step, log_decay, b, c = (value.to(dtype) for value in (x, step, log_decay, b, c))
        skip = torch.zeros_like(step[0, 0]) if skip is None else skip.to(dtype)
        if torch.compiler.is_exporting():
            return exported(x, step, log_decay, b, c, skip)
        if form == "recurrent":
            return recurrent(x, step, log_decay, b, c, skip)
        if form == "fused":
            return fused_form(x, step, log_decay, b, c, skip)
        return _in_chunks(x, step, log_decay, b, c, skip, x.shape[1] if form == "dense" else chunk)


def ssd_at(
    at: Tensor, x: Tensor, step: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, skip: Tensor | None = None
) -> Tensor:
    """``ssd`` at the positions ``at`` [B] alone, c [B, N] being theirs -> y [B, H, P]: one row of the dense form's mask."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        x, step, log_decay, b, c = (value.to(dtype) for value in (x, step, log_decay, b, c))
        length = x.shape[1]
        beyond = (torch.arange(length, device=at.device) > at[:, None])[..., None]
        later = torch.ones(length, length, dtype=dtype, device=x.device).triu(1)  # [j, k]: k comes after j
        # An event reaches the end through the decays after it.
        weight = (later @ log_decay.masked_fill(beyond, 0)).exp() * step.masked_fill(beyond, 0)  # [B, L, H]
        alike = (b @ c[..., None]).squeeze(-1)  # [B, L]
        y = torch.einsum("blh,blhp->bhp", weight * alike[..., None], x)
        return y if skip is None else torch.addcmul(y, at_position(x, at), skip.to(dtype)[:, None])


def recurrent(x: Tensor, step: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> Tensor:
    """The definition, one position after the other."""
    state = x.new_zeros(*x[:, 0].shape, b.shape[-1])
    outputs = []
    for t in range(x.shape[1]):
        added = (step[:, t, :, None] * x[:, t])[..., None] * b[:, t, None, None]
        state = log_decay[:, t, :, None, None].exp() * state + added
        outputs.append((state * c[:, t, None, None]).sum(-1) + skip[:, None] * x[:, t])
    return torch.stack(outputs, dim=1)


def exported(x: Tensor, step: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> Tensor:
    """The dense form without writes in place, which other runtimes do not have: the decay between any two positions is the exponential of the
    sum of those between them, added up from the first on."""
    later = torch.ones(x.shape[1], x.shape[1], dtype=x.dtype, device=x.device).tril(-1)  # [i, j]: i comes after j
    decays = log_decay.transpose(1, 2)[..., None] * later  # [B, H, i, j]: a_i, for the starts j before i
    reach = decays.cumsum(2).exp() * (later + torch.eye(x.shape[1], dtype=x.dtype, device=x.device))
    pairs = (c @ b.transpose(1, 2))[:, None] * reach * step.transpose(1, 2)[:, :, None]
    return (pairs @ x.transpose(1, 2)).transpose(1, 2) + skip[:, None] * x


@cache
def fused_kernel() -> Callable[..., Any] | None:
    """flash-linear-attention's kernel for this recurrence, or None where it is not installed."""
    try:
        from fla.ops.simple_gla import chunk_simple_gla
    except ImportError:
        return None
    return chunk_simple_gla


def fused_form(x: Tensor, step: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> Tensor:
    """One kernel for forward and backward. Its products run in TF32, so it agrees with the others to three digits only."""
    kernel = fused_kernel()
    if kernel is None or x.device.type != "cuda":
        raise RuntimeError("the fused form needs a CUDA device and the package flash-linear-attention")
    shared = (*x.shape[:3], b.shape[-1])
    q, k = (value[:, :, None].expand(shared).contiguous() for value in (c, b))
    y, _ = kernel(q=q, k=k, v=x * step[..., None], g=log_decay.contiguous(), scale=1.0)
    return torch.addcmul(y, x, skip[:, None])


def _in_chunks(x: Tensor, step: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, skip: Tensor, longest: int) -> Tensor:
    """As few equal chunks as need be, filled up at the end, where nothing that is kept can see it."""
    length = x.shape[1]
    chunks = -(-length // longest)
    missing = -length % chunks

    def cut(value: Tensor) -> Tensor:
        """[B, L, ...] -> [B, n, Q, ...]."""
        value = F.pad(value, (0, 0) * (value.dim() - 2) + (0, missing)) if missing else value
        return value.unflatten(1, (chunks, -1))

    y = _Chunks.apply(*(cut(value) for value in (x, step, log_decay, b, c)), skip)
    return y.flatten(1, 2)[:, :length]


class _Chunks(torch.autograd.Function):
    """Dense and chunked form, with their gradients written out: autograd would make twice the passes over memory.

    All arguments but skip [H] are [B, n, Q, ...].
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        x, step, log_decay, b, c, skip = inputs
        heads_first = x.transpose(2, 3).contiguous()  # [B, n, H, Q, P]
        alike = (c @ b.transpose(2, 3)).tril_()  # [B, n, Q, Q]
        mask = decay_mask(step, log_decay)
        pairs = mask * alike[:, :, None]
        pairs.diagonal(0, 3, 4).add_(skip[:, None])
        y = (pairs @ heads_first).transpose(2, 3)
        carry = _Carry(x, step, log_decay, b, c) if x.shape[1] > 1 else None
        if carry is not None:
            carry.add_to(y)
        ctx.carry = carry
        ctx.save_for_backward(heads_first, step, b, c, alike, mask, pairs)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, step, b, c, alike, mask, pairs = ctx.saved_tensors
        grad = grads[0]
        with torch.autocast(x.device.type, enabled=False):
            by_y = grad.transpose(2, 3).contiguous()
            by_x = (pairs.transpose(3, 4) @ by_y).transpose(2, 3)
            by_pair = by_y @ x.transpose(3, 4)  # [B, n, H, Q, Q]
            by_skip = by_pair.diagonal(0, 3, 4).sum((0, 1, 3))
            by_pair.mul_(mask)
            by_alike = by_pair.sum(2).tril_()
            by_b, by_c = by_alike.transpose(2, 3) @ c, by_alike @ b
            # From here on by_pair is the gradient by the logarithm of each pair's weight, Delta_j exp(a_{j+1} + ... + a_i) alike_ij.
            by_pair.mul_(alike[:, :, None])
            by_start = by_pair.sum(3)
            by_step = (by_start / step.transpose(2, 3).clamp_min(torch.finfo(step.dtype).tiny)).transpose(2, 3)
            # a_k stands in all pairs with j < k <= i: those that end at k or later, less those that also start there. A pair of a
            # position with itself has no decay.
            itself = by_pair.diagonal(0, 3, 4)
            by_start -= itself
            itself.zero_()
            by_decay = _from_here_on((by_pair.sum(4) - by_start).transpose(2, 3))
            if ctx.carry is not None:
                by_x = by_x.contiguous()
                ctx.carry.add_gradients(grad, by_x, by_step, by_decay, by_b, by_c)
        return by_x, by_step, by_decay, by_b, by_c, by_skip


class _Carry:
    """What later chunks hear of earlier ones, through the state at each seam [B, n - 1, H P, N], and the gradients of that.

    An event reaches the end of its chunk with ``weight``; a position hears the state that entered its chunk with ``since``.
    """

    def __init__(self, x: Tensor, step: Tensor, log_decay: Tensor, b: Tensor, c: Tensor) -> None:
        self.x, self.b, self.c = x[:, :-1], b[:, :-1], c[:, 1:]
        since = log_decay.cumsum(2).exp()
        self.since, self.whole = since[:, 1:, ..., None], since[:, :, -1]
        self.left = F.pad(_from_here_on(log_decay[:, :-1, 1:]), (0, 0, 0, 1)).exp()
        self.weight = self.left * step[:, :-1]
        self.fed = (self.x * self.weight[..., None]).flatten(3)  # [B, n - 1, Q, H P]
        states = list((self.fed.transpose(2, 3) @ self.b).unbind(1))
        for k in range(1, len(states)):
            states[k] = torch.addcmul(states[k], self._kept(k), states[k - 1])
        self.states = torch.stack(states, dim=1)
        self.heard = (self.c @ self.states.transpose(2, 3)).view_as(x[:, 1:])

    def _kept(self, k: int) -> Tensor:
        """[B, H P, 1]: what chunk k leaves of the state that enters it."""
        return self.whole[:, k, :, None].expand(-1, -1, self.x.shape[-1]).flatten(1)[..., None]

    def add_to(self, y: Tensor) -> None:
        y[:, 1:].addcmul_(self.heard, self.since)

    def add_gradients(
        self, grad: Tensor, by_x: Tensor, by_step: Tensor, by_decay: Tensor, by_b: Tensor, by_c: Tensor
    ) -> None:
        """Add this part's gradients to those inside the chunks, all [B, n, Q, ...]."""
        heard = grad[:, 1:] * self.since
        flat = heard.flatten(3)
        by_c[:, 1:] += flat @ self.states
        by_states = self._by_added(list((flat.transpose(2, 3) @ self.c).unbind(1)), by_decay)
        by_b[:, :-1] += self.fed @ by_states
        by_fed = (self.b @ by_states.transpose(2, 3)).view_as(self.x)
        by_x[:, :-1].addcmul_(by_fed, self.weight[..., None])
        by_weight = by_fed.mul_(self.x).sum(-1)
        by_step[:, :-1] += by_weight * self.left
        # An event is carried out by the decays after it, and heard through those up to the position.
        by_decay[:, :-1, 1:] += (by_weight * self.weight).cumsum(2)[:, :, :-1]
        by_decay[:, 1:] += _from_here_on(heard.mul_(self.heard).sum(-1))

    def _by_added(self, by_state: list[Tensor], by_decay: Tensor) -> Tensor:
        """Gradients by the states as their own chunks read them -> by what each chunk adds, which all later ones read.

        Adds to ``by_decay`` the part of the decays of a chunk that a state crosses whole.
        """
        for k in reversed(range(1, len(by_state))):
            through = (by_state[k] * self.states[:, k - 1]).unflatten(1, (self.whole.shape[-1], -1)).sum((2, 3))
            by_decay[:, k] += (through * self.whole[:, k])[:, None]
            by_state[k - 1] = torch.addcmul(by_state[k - 1], self._kept(k), by_state[k])
        return torch.stack(by_state, dim=1)


def decay_mask(step: Tensor, log_decay: Tensor) -> Tensor:
    """[..., Q, H] both -> [..., H, Q, Q]: Delta_j exp(a_{j+1} + ... + a_i) for i >= j, else 0.

    Each row is the one above, decayed once more: cheaper than the exponential of every pair's sum, and as exact as can be.
    """
    step, kept = step.transpose(-1, -2), log_decay.exp().transpose(-1, -2)
    mask = step.new_zeros(*step.shape, step.shape[-1])
    mask.diagonal(0, -2, -1).copy_(step)
    rows = mask.unbind(-2)
    for row, above, decay in zip(rows[1:], rows[:-1], kept[..., None].unbind(-2)[1:], strict=True):
        row.addcmul_(above, decay)
    return mask


def _from_here_on(value: Tensor) -> Tensor:
    """[B, n, Q, H] -> the sum over each position and those after it in its chunk."""
    return value.flip(2).cumsum(2).flip(2)
