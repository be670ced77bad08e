"""The Mamba layer [Gu and Dao, arXiv 2312.00752, section 3.4]: gated, with a short convolution before the selective scan.

    [x | z] = u W_in;   x <- silu(causal depthwise convolution of x);   [r | B | C] = x W_x
    Delta = softplus(r W_dt + b_dt);   out = (scan(x, Delta, A, B, C, D) silu(z)) W_out

Shapes: B rows, L positions, D width, E = expand D inner width, N width of the state, R rank of the step.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.nn.recurrent.causal_conv import CausalConv
from recbench.nn.recurrent.selective_scan import selective_scan


class MambaMixer(nn.Module):
    """[B, L, D] -> [B, L, D], each position a function of itself and the positions before it."""

    def __init__(self, hidden_size: int, expand: int, state_size: int, taps: int) -> None:
        super().__init__()
        inner, rank = expand * hidden_size, math.ceil(hidden_size / 16)
        self.sizes = (rank, state_size, state_size)
        self.input = nn.Linear(hidden_size, inner, bias=False)
        self.gate = nn.Linear(hidden_size, inner, bias=False)
        self.conv = CausalConv(inner, taps)
        self.select = nn.Linear(inner, sum(self.sizes), bias=False)
        self.step = nn.Linear(rank, inner)
        rates = torch.arange(1.0, state_size + 1.0).log()
        self.log_rate = nn.Parameter(
            rates.repeat(inner, 1)
        )  # S4D-real: the state's channels forget at rates 1, 2, ... N
        self.skip = nn.Parameter(torch.ones(inner))
        self.output = nn.Linear(inner, hidden_size, bias=False)

    def forward(self, u: Tensor) -> Tensor:
        x = F.silu(self.conv(self.input(u)))
        raw, b, c = self.select(x).split(self.sizes, dim=-1)
        step = F.softplus(self.step(raw).float())
        y = selective_scan(x, step, -self.log_rate.float().exp(), b, c, self.skip)
        return self.output(y.to(u.dtype) * F.silu(self.gate(u)))
