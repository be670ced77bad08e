"""Self-attention layers over right-padded sequences.

Shapes: B rows, L positions, D width, H heads. Right padding and a causal mask together mean that a real position never sees a pad,
so the causal layers need no padding mask. The bidirectional one is told which positions are real.

``last`` of a causal layer gives its output at one position of each row: all that ranking reads of the topmost layer, at a third of its work.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.nn.transformer.dropout import Dropout

#: Keys and values [B, H, P, E] of the positions before.
KeyValue = tuple[Tensor, Tensor]


def at_position(x: Tensor, at: Tensor) -> Tensor:
    """x [B, L, ...], at [B] -> [B, ...]."""
    return x[torch.arange(x.shape[0], device=x.device), at]


def at_positions(x: Tensor, at: Tensor) -> Tensor:
    """x [B, L, D], at [B, A] -> [B, A, D]."""
    return x.gather(1, at[..., None].expand(-1, -1, x.shape[2]))


def attend_from(query: Tensor, key: Tensor, value: Tensor, at: Tensor, n_heads: int) -> Tensor:
    """Attention of one position of each row, which sees 0..at: query [B, D], key and value [B, L, D], at [B] -> [B, D]. Without dropout."""
    b, length, d = key.shape
    heads = (n_heads, d // n_heads)
    sees = torch.arange(length, device=at.device) <= at[:, None]
    mixed = F.scaled_dot_product_attention(
        query.view(b, 1, *heads).transpose(1, 2),
        key.view(b, length, *heads).transpose(1, 2),
        value.view(b, length, *heads).transpose(1, 2),
        attn_mask=sees[:, None, None],
    )
    return mixed.reshape(b, d)


class MultiHeadAttention(nn.Module):
    """Projections and heads; a subclass says who sees whom. [B, L, D] -> [B, L, D]."""

    def __init__(self, hidden_size: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)

    def attend(self, x: Tensor, **mask: Any) -> Tensor:
        """``mask`` as ``scaled_dot_product_attention`` takes it."""
        b, length, d = x.shape
        qkv = self.query_key_value(x).view(b, length, 3, self.n_heads, d // self.n_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0.0, **mask
        )
        return self.output(mixed.transpose(1, 2).reshape(b, length, d))

    def extend(
        self, x: Tensor, past: KeyValue | None, sees: Tensor, at: Tensor | None = None
    ) -> tuple[Tensor, KeyValue]:
        """New positions x [B, M, D] behind ``past``, the keys and values of P positions -> ([B, M, D], keys and values of all P + M).

        sees: bool, broadcast to [B, 1, M, P + M], True where a new position may look; each needs at least one. at [B, A]: those of the M
        positions whose output is wanted, [B, A, D] then, and ``sees`` is of them; all if None.
        """
        b, new, d = x.shape
        qkv = self.query_key_value(x).view(b, new, 3, self.n_heads, d // self.n_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        if at is not None:
            new = at.shape[1]
            query = query.gather(2, at[:, None, :, None].expand(-1, self.n_heads, -1, query.shape[-1]))
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=sees, dropout_p=dropout)
        return self.output(mixed.transpose(1, 2).reshape(b, new, d)), (key, value)


class CausalSelfAttention(MultiHeadAttention):
    """Multi-head attention in which position i sees positions 0..i. [B, L, D] -> [B, L, D]."""

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x, is_causal=True)

    def last(self, x: Tensor, at: Tensor) -> Tensor:
        """x [B, L, D], at [B] a position of each row -> [B, D]."""
        query, key, value = self.query_key_value(x).chunk(3, dim=-1)
        return self.output(attend_from(at_position(query, at), key, value, at, self.n_heads))


class BidirectionalSelfAttention(MultiHeadAttention):
    """Multi-head attention in which every position sees all real ones. x [B, L, D], real [B, L] bool -> [B, L, D]."""

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        return self.attend(x, attn_mask=real[:, None, None, :])


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
        return self._add(x, self.attention(self.attention_norm(x)))

    def last(self, x: Tensor, at: Tensor) -> Tensor:
        """x [B, L, D], at [B] -> the output at that position of each row [B, D]; in evaluation mode only."""
        return self._add(at_position(x, at), self.attention.last(self.attention_norm(x), at))

    def extend(
        self, x: Tensor, past: KeyValue | None, sees: Tensor, at: Tensor | None = None
    ) -> tuple[Tensor, KeyValue]:
        """New positions x [B, M, D] behind those of ``past``, perhaps for the output at some alone; see ``MultiHeadAttention.extend``."""
        attended, kept = self.attention.extend(self.attention_norm(x), past, sees, at)
        return self._add(x if at is None else at_positions(x, at), attended), kept

    def _add(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(attended)
        inner = self.dropout(torch.relu(self.expand(self.feedforward_norm(x))))
        return x + self.dropout(self.contract(inner))


class BidirectionalLayer(nn.Module):
    """Post-norm block of BERT: norm(x + drop(attention x)), then norm(x + drop(feed-forward x)) with GELU. [B, L, D] -> [B, L, D]."""

    def __init__(self, hidden_size: int, n_heads: int, feedforward_size: int, dropout: float) -> None:
        super().__init__()
        self.attention = BidirectionalSelfAttention(hidden_size, n_heads, dropout)
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.expand = nn.Linear(hidden_size, feedforward_size)
        self.contract = nn.Linear(feedforward_size, hidden_size)
        self.feedforward_norm = nn.LayerNorm(hidden_size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """real [B, L] bool: the positions that may be seen; each row needs at least one."""
        x = self.attention_norm(x + self.dropout(self.attention(x, real)))
        return self.feedforward_norm(x + self.dropout(self.contract(F.gelu(self.expand(x)))))
