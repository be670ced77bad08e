"""The Mamba-2 layer around the SSD recurrence [Dao and Gu, ICML 2024, section 7], open to a modulation of its step sizes.

    z = u W_z + b_z,   [x | B | C] = phi(causal depthwise convolution of (u W_x + b_x)),   r = u W_r + b_r
    Delta = softplus(r m + dt_bias)                        m = 1 here; TiM4Rec makes it from the time gaps
    S_t = exp(Delta_t A) S_{t-1} + Delta_t x_t B_t^T,   y_t = S_t C_t + D x_t       A < 0, one a head
    out = RMSNorm(y silu(z)) W_out + b_out

Published code keeps W_z, W_x and W_r as one matrix; here they are three, so that no copy is made to cut their product apart.

Shapes: B rows, L positions, D width, E inner width, H heads of width P = E / H, N width of the state.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.nn.recurrent.causal_conv import CausalConv
from recbench.nn.recurrent.gated_projection import GatedProjection
from recbench.nn.recurrent.state_space import ssd, ssd_at
from recbench.nn.transformer.attention import at_position

Activation = Callable[[Tensor], Tensor]


class SSDMixer(nn.Module):
    """[B, L, D] -> [B, L, D], each position a function of itself and the positions before it; or [B, D], at one position of each row."""

    def __init__(
        self,
        hidden_size: int,
        expand: int,
        head_size: int,
        state_size: int,
        taps: int,
        activation: Activation = F.silu,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        inner = expand * hidden_size
        if inner % head_size:
            raise ValueError(f"the inner width {inner} is not a multiple of the head width {head_size}")
        heads = inner // head_size
        self.widths, self.heads, self.activation = (inner, state_size, state_size), heads, activation
        self.gate = nn.Linear(hidden_size, inner)
        self.input = nn.Linear(hidden_size, sum(self.widths))
        self.step = nn.Linear(hidden_size, heads)
        self.conv = CausalConv(sum(self.widths), taps)
        # Mamba-2's start: decay rates over a range, and step sizes between 0.001 and 0.1, evenly in their logarithm.
        self.log_rate = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        step = torch.empty(heads).uniform_(math.log(1e-3), math.log(1e-1)).exp().clamp_min(1e-4)
        self.step_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # softplus of this is the step
        self.skip = nn.Parameter(torch.ones(heads))
        self.output = GatedProjection(inner, hidden_size, eps)

    def forward(self, u: Tensor, modulation: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """u [B, L, D], modulation [B, L, H] or none -> [B, L, D]; at the positions ``at`` [B] alone: [B, D]."""
        x, b, c = self.activation(self.conv(self.input(u))).split(self.widths, dim=-1)
        raw = self.step(u).float()
        step = F.softplus(self.step_bias + (raw if modulation is None else raw * modulation))
        parts = (x.unflatten(-1, (self.heads, -1)), step, -step * self.log_rate.exp(), b)
        if at is None:
            return self.output(ssd(*parts, c, self.skip), self.gate(u)).to(u.dtype)
        y = ssd_at(at, *parts, at_position(c, at), self.skip)
        return self.output(y, self.gate(at_position(u, at))).to(u.dtype)
