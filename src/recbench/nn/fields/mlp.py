"""A plain multilayer perceptron over features of any leading shape, as click models end in one.

Shapes: [..., E] -> [..., last size].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError, nearest
from recbench.nn.transformer.dropout import Dropout

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "prelu": nn.PReLU, "silu": nn.SiLU}


class MLP(nn.Module):
    """Linear layers of the given sizes, with an activation and dropout behind each; with ``out`` one more layer without either.

    batch_norm: normalise each layer over the batch before its activation; then the input is [B, E].
    """

    def __init__(
        self,
        width: int,
        sizes: Sequence[int],
        dropout: float = 0.0,
        activation: str = "relu",
        out: int | None = 1,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UserError(f"unknown model.activation '{activation}'; {nearest(activation, ACTIVATIONS)}")
        if any(size < 1 for size in sizes):
            raise UserError(f"the layers of a network must have at least one unit, not {list(sizes)}")
        layers: list[nn.Module] = []
        for size in sizes:
            normed = [nn.BatchNorm1d(size)] if batch_norm else []
            layers += [nn.Linear(width, size), *normed, ACTIVATIONS[activation](), Dropout(dropout)]
            width = size
        if out is not None:
            layers.append(nn.Linear(width, out))
            width = out
        self.layers, self.width = nn.Sequential(*layers), width
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def joined(*parts: Tensor) -> Tensor:
    """Features side by side, each of leading shape [B, C] or, for what is the same for all C, [B, 1]."""
    widest = max(part.shape[1] for part in parts)
    return torch.cat([part.expand(-1, widest, -1) for part in parts], dim=-1)
