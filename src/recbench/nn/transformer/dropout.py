"""Dropout whose random bits are cheap on a CPU.

torch draws one Bernoulli number a value there, and at the usual rate of 0.5 that costs a fifth of a SASRec step. Here one 64-bit draw
of the same generator decides four values, 16 bits each, so a rate is met to within 1/65536 and the kept values are scaled by what was
really drawn. On other devices this is torch's own dropout.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """Sets values to 0 with probability ``rate`` while training and scales the others to keep the mean."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"a dropout rate must be at least 0 and below 1, not {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate)
        dropped = round(self.rate * 65536)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        lanes = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = (lanes >= dropped - 32768).to(x.dtype).mul_(65536 / (65536 - dropped))
        return x * kept
