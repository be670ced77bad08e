"""Encoder and decoder layers of a T5-like transformer whose decoder reads one history for many short outputs.

The decoder works on [B, T, S, D]: T outputs of S positions for each of B histories, be they the targets of a training window or the beams of
a search. Outputs see only themselves; all of them ask the same keys and values of the history, which are therefore computed once and
never repeated: the T outputs stand side by side in the query length.

As in T5 [JMLR 2020]: RMS norms in front, no biases, a relative position bias that all layers share, heads whose widths need not add up to D.
Unlike T5, products are scaled by 1 / sqrt(head size), with weights drawn to match.

Shapes: B rows, L positions, M positions of the history, H heads, E head size, D width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.nn.transformer.dropout import Dropout

#: Keys and values, [.., H, L, E] each.
KeyValue = tuple[Tensor, Tensor]


class RelativeBias(nn.Module):
    """A number for each head and bucket of the distance key - query: exact up to a half, then logarithmic [T5, section 2.1]."""

    def __init__(self, n_heads: int, both_ways: bool, n_buckets: int = 32, farthest: int = 128) -> None:
        super().__init__()
        self.both_ways, self.n_buckets, self.farthest = both_ways, n_buckets, farthest
        self.weight = nn.Parameter(torch.empty(n_buckets, n_heads).normal_(std=0.02))

    def forward(self, length: int) -> Tensor:
        """-> [1, H, L, L]; not both ways: -inf where a key lies behind the query."""
        place = torch.arange(length, device=self.weight.device)
        ahead = place - place[:, None]
        bias = self.weight[self._bucket(ahead)].permute(2, 0, 1)[None]
        return bias if self.both_ways else bias.masked_fill(ahead > 0, -torch.inf)

    def _bucket(self, ahead: Tensor) -> Tensor:
        count = self.n_buckets
        side = torch.zeros_like(ahead)
        if self.both_ways:
            count //= 2
            side = (ahead > 0) * count
        distance = ahead.abs() if self.both_ways else (-ahead).clamp(min=0)
        exact = count // 2
        far = (distance.clamp(min=1) / exact).log() / math.log(self.farthest / exact) * (count - exact)
        return side + torch.where(distance < exact, distance, (exact + far.long()).clamp(max=count - 1))


class Attention(nn.Module):
    """Projections of one attention. The parts are called apart, because keys and values are kept."""

    def __init__(self, width: int, n_heads: int, head_size: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.query = nn.Linear(width, n_heads * head_size, bias=False)
        self.key_value = nn.Linear(width, 2 * n_heads * head_size, bias=False)
        self.output = nn.Linear(n_heads * head_size, width, bias=False)

    def keys(self, x: Tensor) -> KeyValue:
        """x [N, L, D] -> keys and values [N, H, L, E]."""
        key, value = self.key_value(x).chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def mix(self, x: Tensor, memory: KeyValue, mask: Tensor | None) -> Tensor:
        """x [N, L, D], memory [N, H, M, E], mask [N, H, L, M] or what broadcasts: added if float, where to look if bool -> [N, L, D]."""
        mixed = F.scaled_dot_product_attention(
            self._split(self.query(x)), *memory, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0
        )
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """norm, expand, ReLU, contract; the residual is the caller's."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, inner, bias=False)
        self.contract = nn.Linear(inner, width, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(self.dropout(torch.relu(self.expand(self.norm(x)))))


class EncoderLayer(nn.Module):
    """x + drop(attention(norm x)), then x + drop(feed-forward x). x [B, L, D], bias [.., H, L, L] -> [B, L, D]."""

    def __init__(self, width: int, n_heads: int, head_size: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.attention = Attention(width, n_heads, head_size, dropout)
        self.feedforward = FeedForward(width, inner, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        normed = self.norm(x)
        x = x + self.dropout(self.attention.mix(normed, self.attention.keys(normed), bias))
        return x + self.dropout(self.feedforward(x))


class DecoderLayer(nn.Module):
    """As EncoderLayer, with an attention to the history between the two."""

    def __init__(self, width: int, n_heads: int, head_size: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.self_norm = nn.RMSNorm(width, eps=1e-6)
        self.self_attention = Attention(width, n_heads, head_size, dropout)
        self.cross_norm = nn.RMSNorm(width, eps=1e-6)
        self.cross_attention = Attention(width, n_heads, head_size, dropout)
        self.feedforward = FeedForward(width, inner, dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Tensor, bias: Tensor, memory: KeyValue, mask: Tensor, past: KeyValue | None = None
    ) -> tuple[Tensor, KeyValue]:
        """x [B, T, S, D] -> (the same shape, keys and values of all positions so far [B * T, H, P + S, E]).

        bias [1, H, S, P + S]: relative, with -inf where a position may not look. memory [B, H, M, E] from ``cross_attention.keys``.
        mask [B, 1, T * S or 1, M] bool: what of the history may be seen. past: of the P positions before x.
        """
        b, t, s, d = x.shape
        normed = self.self_norm(x).view(b * t, s, d)
        own = self.self_attention.keys(normed)
        if past is not None:
            own = torch.cat([past[0], own[0]], dim=2), torch.cat([past[1], own[1]], dim=2)
        x = x + self.dropout(self.self_attention.mix(normed, own, bias).view(b, t, s, d))
        asked = self.cross_norm(x).view(b, t * s, d)
        x = x + self.dropout(self.cross_attention.mix(asked, memory, mask).view(b, t, s, d))
        return x + self.dropout(self.feedforward(x)), own


def initialise(module: nn.Module) -> None:
    """N(0, 1 / inputs) for linear maps and N(0, 1) for embeddings, as T5 with its products scaled."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight)
