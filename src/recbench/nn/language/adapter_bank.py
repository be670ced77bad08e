"""Several low-rank adapters in the same linear layers, mixed by weights that are given with each row.

    sum       W x + (alpha / r) sum_k w_k B_k A_k x
    factors   W x + (alpha / r) (sum_k w_k B_k) (sum_k w_k A_k) x     with cross terms B_k A_j: other than the sum unless one weight alone is not 0

All A are one product, as one adapter of rank n r would be. The weights are set for the length of a ``with``; no hook edits what a layer gives.

Shapes: B rows, L positions, I inputs, O outputs, n adapters, r rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError

COMPOSE = ("sum", "factors")


class Mixture:
    """The weights [B, L, n] that all layers of a bank read; None: the adapters are off.

    An object and no list: torch.export puts a copy in the place of each list of a module, and the layers would no longer read what the bank sets.
    """

    weights: Tensor | None = None


class MixedLinear(nn.Module):
    """A linear layer with n adapters beside it. ``down`` [n, r, I] drawn, ``up`` [n, O, r] zero; ``mixture``: the bank's."""

    def __init__(
        self, base: nn.Linear, n: int, rank: int, scale: float, compose: str, start: float, mixture: Mixture
    ) -> None:
        super().__init__()
        self.base, self.scale, self.compose = base, scale, compose
        self.down = nn.Parameter(torch.empty(n, rank, base.in_features))
        self.up = nn.Parameter(
            start * torch.randn(n, base.out_features, rank) if start else torch.zeros(n, base.out_features, rank)
        )
        nn.init.uniform_(self.down, -1 / math.sqrt(base.in_features), 1 / math.sqrt(base.in_features))
        self._mixture = mixture

    def forward(self, x: Tensor) -> Tensor:
        out = self.base(x)
        weights = self._mixture.weights
        if weights is None:
            return out
        n, rank, _ = self.down.shape
        given = x.to(self.down.dtype)
        inner = F.linear(given, self.down.flatten(0, 1)).unflatten(-1, (n, rank)) * weights[..., None]
        if self.compose == "factors":
            up = torch.einsum("bln,nor->blor", weights, self.up)
            added = torch.einsum("blor,blr->blo", up, inner.sum(-2))
        else:
            added = F.linear(inner.flatten(-2), self.up.transpose(0, 1).flatten(1))
        return out + (self.scale * added).to(out.dtype)


class AdapterBank:
    """Puts adapters into the linear layers of a model whose names end in one of ``targets``. Not a module: the layers hold the weights.

    Raises UserError if no layer has such a name.
    """

    def __init__(
        self,
        model: nn.Module,
        targets: Sequence[str],
        n: int,
        rank: int,
        alpha: float,
        compose: str,
        start: float = 0.0,
    ) -> None:
        self._mixture = Mixture()
        found = [
            (name, module)
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and any(f".{name}".endswith(f".{target}") for target in targets)
        ]
        if not found:
            linear = sorted(
                {name.split(".")[-1] for name, part in model.named_modules() if isinstance(part, nn.Linear)}
            )
            raise UserError(
                f"no linear layer is called {' or '.join(targets)}; for model.lora_targets there are: {', '.join(linear)}"
            )
        for name, module in found:
            mixed = MixedLinear(module, n, rank, alpha / rank, compose, start, self._mixture)
            model.set_submodule(name, mixed)

    @contextmanager
    def mixing(self, weights: Tensor) -> Iterator[None]:
        """While this is open the adapters count with weights [B, L, n]; outside they are off."""
        self._mixture.weights = weights
        try:
            yield
        finally:
            self._mixture.weights = None
