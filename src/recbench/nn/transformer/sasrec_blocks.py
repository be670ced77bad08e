"""The two other blocks that SASRec is built of in the literature: the authors' own, and LiGR's gated one.

Both are causal over right-padded sequences and made and called as ``nn.attention.TransformerLayer`` is. Shapes: B rows, L positions,
D width, H heads, F width of the feed-forward layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.nn.transformer.attention import CausalSelfAttention, at_position, attend_from
from recbench.nn.transformer.dropout import Dropout


class OriginalLayer(nn.Module):
    """The block of SASRec's authors, as their code has it [Kang and McAuley, ICDM 2018]. [B, L, D] -> [B, L, D].

        q = norm(x);  x = q + attention(query = q, key = value = x);  y = norm(x);  y + drop(W2 drop(relu(W1 y)))

    Three things set it apart from a pre-norm block: the residual carries the *normed* input, keys and values read the un-normed one, and
    the heads are put side by side without an output projection.
    """

    def __init__(self, hidden_size: int, n_heads: int, feedforward_size: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.attention_dropout = n_heads, dropout
        self.attention_norm = nn.LayerNorm(hidden_size, eps=1e-8)
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)
        self.feedforward_norm = nn.LayerNorm(hidden_size, eps=1e-8)
        self.expand = nn.Linear(hidden_size, feedforward_size)
        self.contract = nn.Linear(feedforward_size, hidden_size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.attention_norm(x)
        return self._feed(normed + self._attention(normed, x))

    def last(self, x: Tensor, at: Tensor) -> Tensor:
        """x [B, L, D], at [B] -> the output at that position of each row [B, D]; in evaluation mode only."""
        normed = self.attention_norm(at_position(x, at))
        key, value = self.key_value(x).chunk(2, dim=-1)
        return self._feed(normed + attend_from(self.query(normed), key, value, at, self.n_heads))

    def _feed(self, x: Tensor) -> Tensor:
        y = self.feedforward_norm(x)
        return y + self.dropout(self.contract(self.dropout(torch.relu(self.expand(y)))))

    def _attention(self, normed: Tensor, x: Tensor) -> Tensor:
        b, length, d = x.shape
        heads = (b, length, self.n_heads, d // self.n_heads)
        key, value = self.key_value(x).chunk(2, dim=-1)
        query, key, value = (part.view(heads).transpose(1, 2) for part in (self.query(normed), key, value))
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=dropout)
        return mixed.transpose(1, 2).reshape(b, length, d)


class LiGRLayer(nn.Module):
    """A pre-norm block whose two additions are gated by their input [arXiv 2502.03417; in eSASRec arXiv 2508.06450]. [B, L, D] -> [B, L, D].

    x = x + sigmoid(G1 x) * drop(attention(norm x));  x + sigmoid(G2 x) * drop(W3 drop(silu(W1 norm x) * W2 norm x))

    The gates read the un-normed state and have a bias; the three matrices of the SwiGLU have none.
    """

    def __init__(self, hidden_size: int, n_heads: int, feedforward_size: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.attention = CausalSelfAttention(hidden_size, n_heads, dropout)
        self.attention_gate = nn.Linear(hidden_size, hidden_size)
        self.feedforward_norm = nn.LayerNorm(hidden_size)
        self.expand = nn.Linear(hidden_size, 2 * feedforward_size, bias=False)  # W1 and W2, side by side
        self.contract = nn.Linear(feedforward_size, hidden_size, bias=False)
        self.feedforward_gate = nn.Linear(hidden_size, hidden_size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self._add(x, self.attention(self.attention_norm(x)))

    def last(self, x: Tensor, at: Tensor) -> Tensor:
        """x [B, L, D], at [B] -> the output at that position of each row [B, D]; in evaluation mode only."""
        return self._add(at_position(x, at), self.attention.last(self.attention_norm(x), at))

    def _add(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + torch.sigmoid(self.attention_gate(x)) * self.dropout(attended)
        opening, content = self.expand(self.feedforward_norm(x)).chunk(2, dim=-1)
        inner = self.contract(self.dropout(F.silu(opening) * content))
        return x + torch.sigmoid(self.feedforward_gate(x)) * self.dropout(inner)
