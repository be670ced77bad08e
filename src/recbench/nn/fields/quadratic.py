"""Quadratic layers: each multiplies its input with a linear map of itself and adds it [QIN, the authors' code].

    x <- x + drop(prelu(norm(x * sum_r (W_r x + b_r))))

The sum over the ``rows`` r is one linear map: several rows add parameters and average dropout, no capacity. ``folded`` gives that one map.

Shapes: [..., E] -> [..., E].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbench.nn.transformer.dropout import Dropout


class QuadraticLayer(nn.Module):
    """One of them. The norm is over the rows of the batch, whatever their leading shape."""

    def __init__(self, width: int, rows: int, dropout: float) -> None:
        super().__init__()
        maps = [nn.Linear(width, width) for _ in range(rows)]
        self.maps = nn.ModuleList(maps)
        self.norm, self.activation, self.dropout = nn.BatchNorm1d(width), nn.PReLU(), Dropout(dropout)
        for layer in maps:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        product = x * sum(layer(x) for layer in self.maps)
        normed = self.norm(product.reshape(-1, x.shape[-1])).view_as(x)
        return x + self.dropout(self.activation(normed))

    def folded(self) -> tuple[Tensor, Tensor]:
        """(weight, bias) of the one linear map that all rows are."""
        maps = [layer for layer in self.maps if isinstance(layer, nn.Linear)]
        return torch.stack([m.weight for m in maps]).sum(0), torch.stack([m.bias for m in maps]).sum(0)


class QuadraticNetwork(nn.Sequential):
    """``n_layers`` of them and a last linear layer. [..., E] -> [..., 1]."""

    def __init__(self, width: int, n_layers: int, rows: int, dropout: float) -> None:
        layers = [QuadraticLayer(width, rows, dropout) for _ in range(n_layers)]
        super().__init__(*layers, nn.Linear(width, 1))
