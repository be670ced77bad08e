"""A complex diagonal linear recurrence in log2(L) steps [Orvieto et al., ICML 2023; as a recommender Yue et al., WSDM 2024].

    h_t = lambda h_{t-1} + gamma (W_in x_t + b_in),   y_t = Re(W_out h_t + b_out),   |lambda| < 1, one lambda a channel

Shapes: B rows, L positions, D width, C = 2 D complex channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def doubling_scan(inputs: Tensor, decay: Tensor) -> Tensor:
    """h_t = decay h_{t-1} + inputs_t with h_{-1} = 0. inputs [B, L, C] complex, decay [C] complex -> [B, L, C].

    Blocks of 1, 2, 4 ... positions are solved from their halves: what the first half ends in reaches position k of the second
    as decay^(k+1) times itself. Positions only ever read earlier ones, so what stands behind a position (a pad) cannot change it.
    """
    b, length, channels = inputs.shape
    rounds = max(length - 1, 0).bit_length()
    states = F.pad(inputs, (0, 0, 0, (1 << rounds) - length))
    powers = decay[None]  # decay^1 .. decay^half
    for _ in range(rounds):
        half = len(powers)
        first, second = states.reshape(b, -1, 2, half, channels).unbind(2)
        second = second + powers * first[:, :, -1:]
        states = torch.stack([first, second], dim=2).view(b, -1, channels)
        powers = torch.cat([powers, powers * powers[-1]])
    return states[:, :length]


def step_by_step(inputs: Tensor, decay: Tensor) -> Tensor:
    """The same recurrence as it is written; the reference that the scan is tested against."""
    state, states = torch.zeros_like(inputs[:, 0]), []
    for now in inputs.unbind(1):
        state = decay * state + now
        states.append(state)
    return torch.stack(states, dim=1)


def real_doubling_scan(real: Tensor, imaginary: Tensor, decay_re: Tensor, decay_im: Tensor) -> Tensor:
    """``doubling_scan`` in real numbers, for exported programs: ONNX knows no complex ones. real, imaginary [B, L, C], decay_re, decay_im
    [C] -> [B, L, 2 C], real parts first."""
    length = real.shape[1]
    rounds = max(length - 1, 0).bit_length()
    missing = (1 << rounds) - length
    re, im = F.pad(real, (0, 0, 0, missing)), F.pad(imaginary, (0, 0, 0, missing))
    power_re, power_im = decay_re[None], decay_im[None]
    for n in range(rounds):
        half = 1 << n
        re, im = (part.unflatten(1, (-1, 2, half)) for part in (re, im))
        last_re, last_im = re[:, :, 0, -1:], im[:, :, 0, -1:]
        second_re = re[:, :, 1] + power_re * last_re - power_im * last_im
        second_im = im[:, :, 1] + power_re * last_im + power_im * last_re
        re = torch.stack([re[:, :, 0], second_re], dim=2).flatten(1, 3)
        im = torch.stack([im[:, :, 0], second_im], dim=2).flatten(1, 3)
        whole_re, whole_im = power_re[-1:], power_im[-1:]
        power_re, power_im = (
            torch.cat([power_re, power_re * whole_re - power_im * whole_im]),
            torch.cat([power_im, power_re * whole_im + power_im * whole_re]),
        )
    return torch.cat([re, im], dim=-1)[:, :length]


class LinearRecurrence(nn.Module):
    """The recurrence between two complex projections. [B, L, D] -> [B, L, D].

    lambda = exp(-exp(nu) + i exp(theta)) keeps |lambda| below 1 whatever is learned; at the start it lies on the ring between ``r_min`` and
    ``r_max``, at any angle, and gamma = sqrt(1 - |lambda|^2) gives all channels the same scale. Complex matrices are kept as their real and imaginary
    parts side by side, so that optimisers and checkpoints see real numbers only.
    """

    def __init__(self, hidden_size: int, r_min: float = 0.8, r_max: float = 0.99) -> None:
        super().__init__()
        channels = 2 * hidden_size
        radius = torch.empty(channels).uniform_(r_min**2, r_max**2).sqrt()
        angle = torch.empty(channels).uniform_(1e-3, 2 * math.pi)
        self.log_nu = nn.Parameter((-radius.log()).log())
        self.log_theta = nn.Parameter(angle.log())
        self.log_gamma = nn.Parameter((1 - radius**2).sqrt().log())
        self.enter = nn.Linear(hidden_size, 2 * channels)
        self.leave = nn.Linear(2 * channels, hidden_size)

    @property
    def decay(self) -> Tensor:
        """lambda [C], complex."""
        return torch.exp(torch.complex(-self.log_nu.exp(), self.log_theta.exp()))

    def forward(self, x: Tensor) -> Tensor:
        real, imaginary = self.enter(x).chunk(2, dim=-1)
        if torch.compiler.is_exporting():
            radius, angle, gamma = (-self.log_nu.exp()).exp(), self.log_theta.exp(), self.log_gamma.exp()
            return self.leave(
                real_doubling_scan(real * gamma, imaginary * gamma, radius * angle.cos(), radius * angle.sin())
            )
        states = doubling_scan(torch.complex(real, imaginary) * self.log_gamma.exp(), self.decay)
        # Re((A + iB)(r + is)) = A r - B s; the sign is part of what ``leave`` learns.
        return self.leave(torch.cat([states.real, states.imag], dim=-1))
