"""Causal self-attention layers over right-padded sequences.

Shapes: B rows, L positions, D width, H heads. Right padding and a causal mask together mean that a real position never sees a pad,
so no padding mask is needed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.nn.dropout import Dropout


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which position i sees positions 0..i. [B, L, D] -> [B, L, D]."""

    def __init__(self, hidden_size: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        b, length, d = x.shape
        qkv = self.query_key_value(x).view(b, length, 3, self.n_heads, d // self.n_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, dropout_p=self.dropout if self.training else 0.0
        )
        return self.output(mixed.transpose(1, 2).reshape(b, length, d))


class TransformerLayer(nn.Module):
    """Pre-norm block: x + drop(attention(norm x)), then x + drop(feed-forward(norm x)). [B, L, D] -> [B, L, D]."""

    def __init__(self, hidden_size: int, n_heads: int, feedforward_size: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.attention = CausalSelfAttention(hidden_size, n_heads, dropout)
        self.feedforward_norm = nn.LayerNorm(hidden_size)
        self.expand = nn.Linear(hidden_size, feedforward_size)
        self.contract = nn.Linear(feedforward_size, hidden_size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        inner = self.dropout(torch.relu(self.expand(self.feedforward_norm(x))))
        return x + self.dropout(self.contract(inner))
