"""Vectors of the fields of a row: one table for all categories, a vector times its value for a number, the mean for a field of several values.

Shapes: B rows, F categorical fields, G numbers, S fields of several values, M values of one, D width; E = F + G + S.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FieldEmbedding(nn.Module):
    """categories [B, F], numbers [B, G], several (S of [B, M]) -> [B, E, D]. Number 0 of a category is missing, and its vector is zero.

    sizes, several: numbers of values of each field. All categories share one table with an offset each, so that a batch is one look-up.
    """

    offsets: Tensor
    several_offsets: Tensor

    def __init__(
        self, sizes: Sequence[int], n_numbers: int, several: Sequence[int], width: int, std: float = 1e-4
    ) -> None:
        super().__init__()
        every = [*sizes, *several]
        starts = torch.tensor([0, *every]).cumsum(0)[:-1]
        self.register_buffer("offsets", starts[: len(sizes)], persistent=False)
        self.register_buffer("several_offsets", starts[len(sizes) :], persistent=False)
        self.table = nn.Embedding(max(1, sum(every)), width)
        self.numbers = nn.Parameter(torch.empty(n_numbers, width)) if n_numbers else None
        self.n_fields, self.width = len(every) + n_numbers, width
        nn.init.normal_(self.table.weight, std=std)
        if self.numbers is not None:
            nn.init.normal_(self.numbers, std=std)

    def forward(self, categories: Tensor, numbers: Tensor, several: Sequence[Tensor]) -> Tensor:
        vectors, there = self.table(categories + self.offsets), categories > 0
        parts = [vectors if bool(there.all()) else vectors * there[..., None]]
        if self.numbers is not None:
            parts.append(numbers[..., None] * self.numbers)
        for values, offset in zip(several, self.several_offsets, strict=True):
            there = values > 0
            vectors = self.table(values + offset) * there[..., None]
            parts.append((vectors.sum(1) / there.sum(1).clamp_min(1)[:, None])[:, None])
        return torch.cat(parts, 1)

    def penalty(self) -> Tensor:
        """Sum of the squares of all its values."""
        total = self.table.weight.square().sum()
        return total if self.numbers is None else total + self.numbers.square().sum()


def pairwise_products(vectors: Tensor) -> Tensor:
    """[B, E, D] -> [B]: the sum of the products of all pairs of fields, by 1/2 ((sum v)^2 - sum v^2) [Rendle, ICDM 2010, lemma 3.1].

    >>> pairwise_products(torch.tensor([[[1.0], [2.0], [3.0]]]))
    tensor([11.])
    """
    return 0.5 * (vectors.sum(1).square() - vectors.square().sum(1)).sum(-1)


class CrossLayers(nn.Module):
    """DCN-V2's cross network: x_{l+1} = x_0 * (W_l x_l + b_l) + x_l. [B, W] -> [B, W] [arXiv 2008.13535, eq. 2]."""

    def __init__(self, width: int, n_layers: int) -> None:
        super().__init__()
        layers = [nn.Linear(width, width) for _ in range(n_layers)]
        self.layers = nn.ModuleList(layers)
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        start = x
        for layer in self.layers:
            x = start * layer(x) + x
        return x
