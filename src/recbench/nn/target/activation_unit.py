"""DIN's activation unit: a small network that says how much an event of the history matters to a candidate [KDD 2018, section 4.3].

    a_t = w . act(W [v, e_t, v - e_t, v * e_t] + b)

The four parts are never laid side by side: W (v, e, v - e, v * e) = (W1 + W3) v + (W2 - W3) e + W4 (v * e), so that the first two products are made
once a candidate and once an event.

Shapes: B rows, C candidates, L events, D width, H hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dice(nn.Module):
    """x where it is likely to be on, alpha x where not: p = sigma(normalised x), y = p x + (1 - p) alpha x. Normalised over real entries only.

    In training by mean and variance of the batch, in evaluation by their running means, as batch normalisation does.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, momentum: float = 0.1, eps: float = 1e-8) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.alpha = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """x [..., H], real [...] or what broadcasts to it -> [..., H]."""
        if self.training:
            weight = real.expand(x.shape[:-1]).to(x.dtype)[..., None]
            over = tuple(range(x.ndim - 1))
            count = weight.sum().clamp_min(1.0)
            mean = (x * weight).sum(over) / count
            variance = ((x - mean).square() * weight).sum(over) / count
            with torch.no_grad():
                self.mean.lerp_(mean.detach(), self.momentum)
                self.variance.lerp_(variance.detach(), self.momentum)
        else:
            mean, variance = self.mean, self.variance
        on = torch.sigmoid((x - mean) * (variance + self.eps).rsqrt())
        return x * (self.alpha + on * (1.0 - self.alpha))


class ActivationUnit(nn.Module):
    """candidates [B, C, D], events [B, L, D], real [B, L] -> weights [B, C, L], not normalised and not masked."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(4 * width, hidden)
        self.activation = Dice(hidden)
        self.last = nn.Linear(hidden, 1)
        for layer in (self.first, self.last):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, candidates: Tensor, events: Tensor, real: Tensor) -> Tensor:
        of_candidate, of_event, of_difference, of_product = self.first.weight.chunk(4, dim=1)
        left = candidates @ (of_candidate + of_difference).T + self.first.bias
        right = events @ (of_event - of_difference).T
        both = (candidates[:, :, None] * events[:, None]) @ of_product.T
        hidden = self.activation(both + left[:, :, None] + right[:, None], real[:, None])
        return self.last(hidden).squeeze(-1)
