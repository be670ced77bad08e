"""Softmax of a target among given negatives whose vectors are at hand, for models that cannot afford the vector of every item in a step.

    loss of a position = -log e^{s(q, +)} / (e^{s(q, +)} + sum over its negatives j of e^{s(q, j)})

with s the product, or the cosine times a scale. It is InfoNCE [van den Oord et al., 2018] as HLLM, UniSRec and others train with.

Shapes: P positions, N negatives, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.core.errors import UserError


def candidate_softmax(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    scale: Tensor | float = 1.0,
    cosine: bool = False,
    drop_similar: float | None = None,
    logq: Tensor | None = None,
    taken: Tensor | None = None,
) -> Tensor:
    """queries, positives [P, D], negatives [N, D] shared or [P, N, D] -> losses [P].

    drop_similar: a negative whose cosine with the positive is above this leaves the sum, for it may well be the same thing. logq: log of how
    often each negative was to be expected, taken off its score [N] or [P, N]. taken [P, N] bool: further negatives that are left out.
    Raises UserError if ``drop_similar`` leaves no position a negative: the vectors have collapsed into one, and a loss of 0 would hide it.
    """
    if cosine:
        queries, unit_positives, unit_negatives = (F.normalize(x, dim=-1) for x in (queries, positives, negatives))
    else:
        unit_positives, unit_negatives = positives, negatives
    positive = scale * (queries * unit_positives).sum(-1)
    scores = scale * _products(queries, unit_negatives)
    if logq is not None:
        scores = scores - logq
    out = torch.zeros_like(scores, dtype=torch.bool) if taken is None else taken
    if drop_similar is not None:
        alike = _products(F.normalize(positives, dim=-1), F.normalize(negatives, dim=-1)) > drop_similar
        if len(alike) and bool((alike | out).all()) and not bool(out.all()):
            raise UserError(
                f"every negative is within a cosine of {drop_similar:g} of its target: the item vectors have collapsed into one, and nothing is "
                "left to learn from; lower training.lr, or name another model.tower"
            )
        out = out | alike
    scores = scores.masked_fill(out, -torch.inf)
    return torch.cat([positive[:, None], scores], 1).logsumexp(1) - positive


def _products(rows: Tensor, negatives: Tensor) -> Tensor:
    """rows [P, D], negatives [N, D] or [P, N, D] -> [P, N]."""
    if negatives.ndim == 2:
        return rows @ negatives.T
    return torch.einsum("pd,pnd->pn", rows, negatives)
