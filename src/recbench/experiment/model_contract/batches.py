"""Batches of histories changed in ways that must not matter, or must."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recbench.data.batches import Batch

#: The parts of a batch with one value for each event [B, L], where they are there.
EVENTS = ("items", "timestamps", "behaviours")


def rows(batch: Batch, index: Tensor) -> Batch:
    """The chosen rows of a batch, in that order."""
    return replace(
        batch, lengths=batch.lengths[index], user=batch.user[index], **_events(batch, lambda part: part[index])
    )


def narrowed(batch: Batch, width: int) -> Batch:
    """The first positions of every row; what lies behind must be padding."""
    return replace(batch, **_events(batch, lambda part: part[:, :width]))


def prefixes(batch: Batch, length: int) -> Batch:
    """The first ``length`` events of each row, as histories of their own. Every row must have as many."""
    return replace(narrowed(batch, length), lengths=torch.full_like(batch.lengths, length))


def padded(batch: Batch, extra: int) -> Batch:
    """The same histories with that many more positions of padding."""
    return replace(batch, **_events(batch, lambda part: torch.nn.functional.pad(part, (0, extra))))


def _events(batch: Batch, change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    return {name: change(part) for name in EVENTS if (part := getattr(batch, name)) is not None}
