"""The noise of SimGCL and XSimGCL: a step of length ``eps`` in a random direction of the same orthant."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def with_noise(x: Tensor, eps: float) -> Tensor:
    """x [N, D] -> x + eps * sign(x) * u, with u uniform in [0, 1) and of length 1 in each row."""
    return x + eps * torch.sign(x.detach()) * F.normalize(torch.rand_like(x), dim=1)
