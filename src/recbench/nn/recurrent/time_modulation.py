"""TiM4Rec's way from time gaps to a factor on the step sizes of a state-space layer [arXiv 2409.16182, section 3.3, and its code].

    s = MLP(tau),   m = phi(conv_b(phi(conv_a(tau s))))          conv: causal depthwise over H channels;  Delta = softplus(r m + dt_bias)

Two readings of tau and the MLP: ``PerPosition`` is causal, ``AcrossSequence`` is what was released.

Shapes: B rows, L positions, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.nn.recurrent.causal_conv import CausalConv
from recbench.nn.transformer.dropout import Dropout


class PerPosition(nn.Module):
    """tau is the standardised logarithm of the gap, one number a position, and so is what the MLP sees. [B, L] -> [B, L, H]."""

    def __init__(self, heads: int, hidden_size: int, taps: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(1, hidden_size), nn.SiLU(), nn.Linear(hidden_size, heads))
        self.first, self.second = CausalConv(heads, taps), CausalConv(heads, taps)
        self.dropout = Dropout(dropout)

    def forward(self, tau: Tensor) -> Tensor:
        scale = self.mlp(self.dropout(tau)[..., None])
        return F.hardswish(self.second(F.hardswish(self.first(tau[..., None] * scale))))


class AcrossSequence(nn.Module):
    """tau [B, H, L] of a fixed length, mixed over all positions, later ones too, by L x L matrices that the heads share.

    Each layer hands the next a tau of its own: norm(g tau + (1 - g) m) with g = sigmoid(W_g tau), where W_g has one row, or L.
    ``last`` freezes that hand-over where nobody takes it: it is counted, as published, but cannot learn.
    """

    def __init__(self, length: int, heads: int, taps: int, dropout: float, gate_rows: int, eps: float, last: bool):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(length, length), nn.SiLU(), nn.Linear(length, length))
        self.first, self.second = CausalConv(heads, taps), CausalConv(heads, taps)
        self.keep = nn.Linear(length, gate_rows)
        self.norm = nn.LayerNorm(length, eps=eps)
        self.dropout, self.last = Dropout(dropout), last
        for module in (self.keep, self.norm):
            module.requires_grad_(not last)

    def forward(self, tau: Tensor) -> tuple[Tensor, Tensor]:
        """tau [B, H, L] -> (m [B, L, H], the next layer's tau [B, H, L], unchanged after the last layer)."""
        scaled = tau * self.mlp(self.dropout(tau))
        modulation = F.hardswish(self.second(F.hardswish(self.first(scaled.transpose(1, 2)))))
        if self.last:
            return modulation, tau
        kept = torch.sigmoid(self.keep(self.dropout(tau)))
        return modulation, self.norm(kept * tau + (1 - kept) * modulation.transpose(1, 2))
