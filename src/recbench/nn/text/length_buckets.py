"""Texts of like length together, so that a frozen encoder spends next to nothing on pads. Shapes: U texts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

#: Tokens, with their pads, that are encoded at once when nothing is trained: on a CPU so few that what lies between two products stays in its cache.
CPU_TOKENS, TOKENS = 1 << 10, 1 << 13


def tokens_at_once(device: torch.device) -> int:
    return CPU_TOKENS if device.type == "cpu" else TOKENS


def by_length(length: Tensor, tokens: int) -> Iterator[Tensor]:
    """Rows of like length together [n], so that little is padded, about ``tokens`` of them with their pads at once. length [U]."""
    order = torch.argsort(length, stable=True)
    sizes = length[order].clamp_min(1).tolist()
    first = 0
    for last, size in enumerate(sizes):
        if last > first and (last - first + 1) * size > tokens:
            yield order[first:last]
            first = last
    if first < len(sizes):
        yield order[first:]
