"""One layer of GPT-2 [Radford et al., 2019], with its dropout where it stands there.

Pre-norm as ``TransformerLayer``, and unlike it: GELU in its tanh form, norms of eps 1e-12, and two rates of dropout. One acts on the attention
weights, the other (the residual's) on what attention and feed-forward add to the stream; inside the feed-forward there is none.

Shapes: B rows, L positions, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.nn.transformer.attention import CausalSelfAttention, at_position
from recbench.nn.transformer.dropout import Dropout

#: Of every norm in the published code.
NORM_EPS = 1e-12
#: The feed-forward's activation: ``gelu_new`` is GPT-2's.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "relu": torch.relu,
}


class GPT2Layer(nn.Module):
    """x + drop(attention(norm x)), then x + drop(feed-forward(norm x)). [B, L, D] -> [B, L, D]."""

    def __init__(
        self,
        hidden_size: int,
        n_heads: int,
        feedforward_size: int,
        attention_dropout: float,
        residual_dropout: float,
        activation: str,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden_size, eps=NORM_EPS)
        self.attention = CausalSelfAttention(hidden_size, n_heads, attention_dropout)
        self.feedforward_norm = nn.LayerNorm(hidden_size, eps=NORM_EPS)
        self.expand = nn.Linear(hidden_size, feedforward_size)
        self.contract = nn.Linear(feedforward_size, hidden_size)
        self.residual_dropout, self.activation = Dropout(residual_dropout), ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self._add(x, self.attention(self.attention_norm(x)))

    def last(self, x: Tensor, at: Tensor) -> Tensor:
        """x [B, L, D], at [B] -> the output at that position of each row [B, D]; in evaluation mode only."""
        return self._add(at_position(x, at), self.attention.last(self.attention_norm(x), at))

    def _add(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.residual_dropout(attended)
        inner = self.activation(self.expand(self.feedforward_norm(x)))
        return x + self.residual_dropout(self.contract(inner))
