"""Gates that open or close each number of the vectors of a row's fields, chosen for each row by a small network.

    pi = sigma(W_2 relu(W_1 x' + b_1) + b_2)       chance that a gate is open; x': the vectors, each of length sqrt(D), without a gradient
    training      z = sigma((logit pi + log u - log(1 - u)) / temperature), u uniform: a draw with a gradient [Maddison et al., ICLR 2017]
    evaluation    z = 1 where pi > 1/2, else 0

Shapes: B rows, E fields, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Where a gate starts: open with a chance of sigma of this, .88.
START = 2.0


class BernoulliGates(nn.Module):
    """x [B, E, D] -> log-odds of each gate [B, E, D] (``log_odds``), and gates drawn or decided by them (``forward``)."""

    def __init__(self, n_fields: int, width: int, hidden: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.first, self.last = nn.Linear(n_fields * width, hidden), nn.Linear(hidden, n_fields * width)
        nn.init.constant_(self.last.bias, START)

    def log_odds(self, x: Tensor) -> Tensor:
        """[B, E, D]. Lengths are taken out, for tables start with vectors so short that all rows would look alike."""
        directions = F.normalize(x.detach(), dim=-1) * x.shape[-1] ** 0.5
        return self.last(torch.relu(self.first(directions.flatten(1)))).view_as(x)

    def forward(self, log_odds: Tensor) -> Tensor:
        """Gates in [0, 1]."""
        if not self.training:
            return (log_odds > 0).to(log_odds.dtype)
        u = torch.rand_like(log_odds).clamp_(1e-6, 1 - 1e-6)
        return torch.sigmoid((log_odds + torch.logit(u)) / self.temperature)


def share_open(log_odds: Tensor) -> Tensor:
    """Mean chance of a gate: what the sparse penalty pushes down."""
    return torch.sigmoid(log_odds).mean()


def indecision(log_odds: Tensor) -> Tensor:
    """Mean of pi (1 - pi): what the bi-polar penalty pushes down, so that a gate's chance is near 0 or near 1."""
    chance = torch.sigmoid(log_odds)
    return (chance * (1 - chance)).mean()
