"""Large buffers that are kept from step to step."""

from __future__ import annotations

import torch
from torch import Tensor

_buffers: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}


def workspace(size: int, dtype: torch.dtype, device: torch.device, name: str = "logits") -> Tensor:
    """A flat buffer of at least ``size`` values, the same at every call with this name: who asks has it until somebody asks again.

    A fresh one each step would be handed back to the kernel by glibc's allocator, and paid for in page faults.
    """
    kept = _buffers.get((name, dtype, device))
    if kept is None or len(kept) < size:
        with torch.inference_mode(False):  # one made for an evaluation serves a training too
            kept = _buffers[name, dtype, device] = torch.empty(size, dtype=dtype, device=device)
    return kept
