"""Means over the targets of a batch."""

from __future__ import annotations

from torch import Tensor


def mean_of(values: Tensor, weights: Tensor | None) -> Tensor:
    """The mean of values [N], weighted if there are weights [N]."""
    return values.mean() if weights is None else (values * weights).sum() / weights.sum()
