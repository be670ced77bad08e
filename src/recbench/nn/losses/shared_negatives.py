"""Softmax of each target among itself and negatives that all positions share, with its gradients made in one pass.

    loss of a position = -log softmax([s+, s_1 - log_expected_1, ..., s_K - log_expected_K])[0],  s the product with the position's state

A negative that is the target of a position has no part in its sum. Written out for autograd, the scores are read and written eleven times a
step (correction, mask, copy, log of the sum, and back through each); here four times, in a buffer that stays.

Shapes: N positions, K negatives, D width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from recbench.nn.losses.buffers import workspace
from recbench.nn.losses.forward_gradients import MadeGradients, surprise


def shared_softmax(
    hidden: Tensor,
    positives: Tensor,
    negatives: Tensor,
    targets: Tensor,
    drawn: Tensor,
    log_expected: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean loss, a scalar. hidden, positives [N, D] · negatives [K, D] · targets [N], drawn [K] the items of these · weights [N] of the mean.

    log_expected [K]: of how often each negative was to be expected; none leaves its score as it is. Gradients can be taken once, by the first three.
    """
    kind = hidden.device.type
    narrow = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    with torch.autocast(kind, enabled=False):
        found = _SharedSoftmax.apply(hidden, positives, negatives, targets, drawn, log_expected, weights, narrow)
    return cast("Tensor", found)


class _SharedSoftmax(MadeGradients):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        positives: Tensor,
        negatives: Tensor,
        targets: Tensor,
        drawn: Tensor,
        log_expected: Tensor | None,
        weights: Tensor | None,
        narrow: torch.dtype,
    ) -> Tensor:
        """narrow: what products are made in."""
        n, k = len(targets), len(drawn)
        wide = torch.promote_types(hidden.dtype, positives.dtype)
        p = workspace(n * (k + 1), wide, hidden.device)[: n * (k + 1)].view(n, k + 1)
        scores, states, others = p[:, 1:], hidden.to(narrow), negatives.to(narrow)
        p[:, 0] = (hidden * positives).sum(1)
        scores.copy_(states @ others.T)
        if log_expected is not None:
            scores -= log_expected
        hit = torch.isin(targets, drawn).nonzero()[:, 0]
        scores[hit] = scores[hit].masked_fill(drawn == targets[hit, None], -torch.inf)
        torch.ops.aten._softmax.out(p, -1, False, out=p)
        # p becomes the gradient by the scores: softmax minus one at the target.
        each = surprise(p[:, 0])
        p[:, 0] -= 1.0
        total: float | Tensor = n
        if weights is not None:
            total, each = weights.sum(), each * weights
            p.mul_(weights[:, None])
        slopes = scores.to(narrow)
        grads = (
            (slopes @ others).to(wide).addcmul_(p[:, :1], positives),
            p[:, :1] * hidden,
            (slopes.T @ states).to(wide),
        )
        kinds = hidden.dtype, positives.dtype, negatives.dtype
        ctx.grads = tuple(grad.div_(total).to(kind) for grad, kind in zip(grads, kinds, strict=True))
        return each.sum() / total
