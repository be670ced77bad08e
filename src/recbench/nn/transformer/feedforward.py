"""The post-norm feed-forward half of a layer: norm(x + drop(W2 drop(phi(W1 x)))). [B, L, D] -> [B, L, D]."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from recbench.nn.transformer.dropout import Dropout


class PostNormFeedForward(nn.Module):
    """``inner_size`` wide inside; ``activation`` is phi."""

    def __init__(
        self, hidden_size: int, inner_size: int, dropout: float, activation: Callable[[Tensor], Tensor], eps: float
    ) -> None:
        super().__init__()
        self.expand = nn.Linear(hidden_size, inner_size)
        self.contract = nn.Linear(inner_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=eps)
        self.dropout, self.activation = Dropout(dropout), activation

    def forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(self.activation(self.expand(x)))
        return self.norm(x + self.dropout(self.contract(inner)))
