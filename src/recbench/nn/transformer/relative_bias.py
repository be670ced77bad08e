"""Learned attention biases that depend on how far two events lie apart: in places, and in time.

Shapes: B rows, L positions, N the longest history. Entry (i, j) is what query i adds to its score of key j <= i; entries above the diagonal
mean nothing and are for the causal mask to remove.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Width of a time bucket on the natural-log scale, about a factor 1.35 in seconds [HSTU, arXiv 2402.17152, released code].
LOG_BUCKET = 0.301


class PositionBias(nn.Module):
    """One number for each distance i - j in 0..N - 1."""

    def __init__(self, max_length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length).normal_(std=0.02))

    def forward(self, length: int) -> Tensor:
        """-> [L, L]. Raises IndexError for a length above the N it was built for."""
        places = torch.arange(length, device=self.weight.device)
        return self.weight[(places[:, None] - places).clamp(min=0)]


class TimeBias(nn.Module):
    """One number for each logarithmic bucket of a gap in seconds, 0..n_buckets."""

    def __init__(self, n_buckets: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_buckets + 1, 1).normal_(std=0.02))

    def forward(self, buckets: Tensor) -> Tensor:
        """buckets [B, L, L] from ``time_buckets`` -> [B, L, L]."""
        return F.embedding(buckets, self.weight).squeeze(-1)


def time_buckets(query_times: Tensor, key_times: Tensor, n_buckets: int) -> Tensor:
    """[B, L, L] int64: floor(ln(max(1, |t_query - t_key|)) / 0.301), at most ``n_buckets``.

    query_times, key_times [B, L] int64 seconds. The difference is taken in integers: a float32 Unix time is exact to two minutes only.

    >>> time_buckets(torch.tensor([[100]]), torch.tensor([[100]]), 128), time_buckets(torch.tensor([[3700]]), torch.tensor([[100]]), 128)
    (tensor([[[0]]]), tensor([[[27]]]))
    """
    gaps = (query_times[:, :, None] - key_times[:, None, :]).abs().clamp(min=1)
    return (gaps.float().log() / LOG_BUCKET).floor().long().clamp(max=n_buckets)
