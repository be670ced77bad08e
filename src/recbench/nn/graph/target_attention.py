"""Scores of a session in which every candidate attends to the events for itself, and their exact softmax loss [TAGNN, SIGIR 2020, eqs. 8-11].

    beta_vp = softmax_p(e_v . k_p);   y_v = s . e_v + sum_p beta_vp (g_p . e_v)      with k_p = W_t g_p

The authors make a vector t_v = sum_p beta_vp g_p for every candidate, [B, V, D]; it is only ever multiplied with e_v, and that product can be taken
before the sum. So a number for each event and candidate is enough, [B, L, V], and that in pieces.

Shapes: B sessions, L events, D width, V = n_items + 1 (column 0 is the pad).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Numbers [B, L, V] that exist at the same time, of each of two kinds.
CHUNK_VALUES = 4 * 2**20


@dataclass(frozen=True)
class Sessions:
    """What a candidate meets of B sessions: vector [B, D] (s) · keys, values [B, L, D] (k_p, g_p) · log_weight [B, L]: of each event, -inf for
    none."""

    vector: Tensor
    keys: Tensor
    values: Tensor
    log_weight: Tensor


def target_scores(sessions: Sessions, table: Tensor) -> Tensor:
    """[B, V] scores of all items; table [V, D]."""
    pieces = _pieces(sessions.vector, sessions.keys, sessions.values, sessions.log_weight, len(table))
    return torch.cat([_piece(s, k, g, weight, table)[0] for s, k, g, weight in pieces])


def target_softmax(sessions: Sessions, table: Tensor, targets: Tensor, bfloat16: bool = False) -> Tensor:
    """Mean cross-entropy of ``target_scores`` against targets [B] over items 1..n_items, and its gradients, in pieces of rows.

    With ``bfloat16`` the products with the table and what follows from them are in bfloat16, as in ``losses.full_softmax``.
    """
    return _TargetSoftmax.apply(
        sessions.vector, sessions.keys, sessions.values, sessions.log_weight, table, targets, bfloat16
    )


def _pieces(
    vector: Tensor, keys: Tensor, values: Tensor, log_weight: Tensor, n_rows: int
) -> Iterator[tuple[Tensor, ...]]:
    at_once = max(1, CHUNK_VALUES // (n_rows * keys.shape[1]))
    return zip(*(part.split(at_once) for part in (vector, keys, values, log_weight)), strict=True)


def _piece(vector: Tensor, keys: Tensor, values: Tensor, log_weight: Tensor, table: Tensor) -> tuple[Tensor, ...]:
    """(scores [B, V], beta [B, L, V], g_p . e_v [B, L, V], their weighted sum [B, V])."""
    shape = (*keys.shape[:2], len(table))
    beta = (keys.flatten(0, 1) @ table.T).view(shape).add_(log_weight[:, :, None].to(table.dtype)).softmax(dim=1)
    met = (values.flatten(0, 1) @ table.T).view(shape)
    attended = (beta * met).sum(1)
    return vector @ table.T + attended, beta, met, attended


class _TargetSoftmax(torch.autograd.Function):
    """Loss and gradients in one pass: what a piece needs for its gradient is gone when the next one is made."""

    @staticmethod
    def forward(
        ctx: Any,
        vector: Tensor,
        keys: Tensor,
        values: Tensor,
        log_weight: Tensor,
        table: Tensor,
        targets: Tensor,
        bfloat16: bool,
    ) -> Tensor:
        dtype = torch.bfloat16 if bfloat16 else torch.float32
        narrow = table.detach().to(dtype)
        narrow_vector, narrow_keys, narrow_values = (part.detach().to(dtype) for part in (vector, keys, values))
        grads: list[list[Tensor]] = [[], [], []]
        grad_table = torch.zeros_like(table, dtype=torch.float32)
        losses, first, n = [], 0, len(targets)
        for s, k, g, weight in _pieces(narrow_vector, narrow_keys, narrow_values, log_weight.detach(), len(table)):
            scores, beta, met, attended = _piece(s, k, g, weight, narrow)
            scores[:, 0] = -torch.inf
            chosen = targets[first : first + len(s), None]
            logs = scores.float().log_softmax(1)
            losses.append(-logs.gather(1, chosen).sum())
            by_score = logs.exp_().scatter_add_(1, chosen, torch.full_like(chosen, -1.0, dtype=torch.float32)).to(dtype)
            # y = s.e + sum_p beta_p c_p:  dy/dc_p = beta_p, and through the softmax dy/da_p = beta_p (c_p - sum_q beta_q c_q).
            by_met = beta.mul_(by_score[:, None])
            by_key = met.sub_(attended[:, None]).mul_(by_met).flatten(0, 1)
            by_met = by_met.flatten(0, 1)
            grads[0].append(by_score @ narrow)
            grads[1].append((by_key @ narrow).view_as(k))
            grads[2].append((by_met @ narrow).view_as(g))
            grad_table.add_(by_score.T @ s).add_(by_key.T @ k.flatten(0, 1)).add_(by_met.T @ g.flatten(0, 1))
            first += len(s)
        ctx.found = (*(torch.cat(part).to(vector.dtype).div_(n) for part in grads), grad_table.div_(n).to(table.dtype))
        return torch.stack(losses).sum() / n

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.found is None:
            raise RuntimeError("the gradients of target_softmax can be taken once only; compute the loss again")
        vector, keys, values, table = (part.mul_(given[0]) for part in ctx.found)
        ctx.found = None
        return vector, keys, values, None, table, None, None
