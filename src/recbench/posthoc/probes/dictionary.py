"""A sparse dictionary on the states of a model: each state as a sum of k of m directions [RecSAE, 2024; Gao et al. 2024 for TopK].

    z = TopK_k( ReLU( (x - b) W_e + b_e ) ),    x^ = z W_d + b,    rows of W_d of length 1, W_d starts as W_e transposed
    loss = FVU + 1/32 FVU of what the strongest dead latents explain of x - x^       FVU: squared error over the variance of all states

A latent is dead if it has not fired in the last epoch. The rows of W_d are set to length 1 after every step. (The released code fits dead latents to
x^ - x, which is the wrong sign, sets lengths once an epoch, and takes the variance of a batch of 8.)

Shapes: N states, D width, m latents, k of them active.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recbench.nn.optimizers import uncompiled

BATCH = 256
DEAD_SHARE = 1 / 32


@dataclass(frozen=True)
class Dictionary:
    """encode [D, m], bias [m], decode [m, D], centre [D], k active latents. A random one has decode of unit rows and no fit behind it."""

    encode: Tensor
    bias: Tensor
    decode: Tensor
    centre: Tensor
    k: int

    def latents(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """(activations [N, k], their latents [N, k]) of states [N, D]; activations may be 0."""
        found = ((states - self.centre) @ self.encode + self.bias).relu().topk(self.k, dim=1)
        return found.values, found.indices

    def reconstructed(self, states: Tensor) -> Tensor:
        """[N, D]."""
        values, which = self.latents(states)
        return self.centre + torch.einsum("nk,nkd->nd", values, self.decode[which])

    def unexplained(self, states: Tensor) -> float:
        """FVU: the share of the states' variance that is not in their reconstruction."""
        total = float((states - states.mean(0)).square().sum())
        return float((states - self.reconstructed(states)).square().sum()) / total if total else 0.0


def random_dictionary(states: Tensor, m: int, k: int, seed: int) -> Dictionary:
    """Random directions, none of them learned: the control of every claim about latents."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.normalize(torch.randn(m, states.shape[1], generator=generator), dim=1)
    return Dictionary(rows.T.contiguous(), torch.zeros(m), rows, states.mean(0), k)


def neurons(states: Tensor, k: int) -> Dictionary:
    """The model's own axes, in both directions."""
    axes = torch.eye(states.shape[1])
    return _of_rows(torch.cat([axes, -axes]), states, k)


def principal_axes(states: Tensor, k: int) -> Dictionary:
    """The principal directions of the states, in both directions."""
    axes = torch.linalg.svd(states - states.mean(0), full_matrices=False).Vh
    return _of_rows(torch.cat([axes, -axes]), states, k)


def _of_rows(rows: Tensor, states: Tensor, k: int) -> Dictionary:
    return Dictionary(rows.T.contiguous(), torch.zeros(len(rows)), rows, states.mean(0), min(k, len(rows)))


def learn_dictionary(
    states: Tensor, m: int, k: int, epochs: int = 20, lr: float = 1e-3, seed: int = 0
) -> tuple[Dictionary, float]:
    """(a dictionary fitted to states [N, D], share of its latents that did not fire in the last epoch)."""
    start = random_dictionary(states, m, k, seed)
    scale = float((states - start.centre).square().sum(1).mean()) or 1.0
    encode, bias, decode, centre = (
        torch.nn.Parameter(part.clone()) for part in (start.encode, start.bias, start.decode, start.centre)
    )
    optimizer = uncompiled(torch.optim.Adam)([encode, bias, decode, centre], lr=lr)
    fired = torch.ones(m, dtype=torch.bool)
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        now = torch.zeros(m, dtype=torch.bool)
        for rows in np.array_split(generator.permutation(len(states)), max(1, len(states) // BATCH)):
            x = states[rows]
            before = (x - centre) @ encode + bias
            z = _top(before.relu(), k)
            now |= (z > 0).any(0)
            missing = x - centre - z @ decode
            loss = missing.square().sum(1).mean() / scale
            dead = (~fired).nonzero()[:, 0]
            if len(dead):
                revived = _top(before[:, dead].relu(), min(len(dead), states.shape[1] // 2))
                loss = loss + DEAD_SHARE * (missing.detach() - revived @ decode[dead]).square().sum(1).mean() / scale
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                decode.div_(decode.norm(dim=1, keepdim=True).clamp_min(1e-8))
        fired = now
    made = Dictionary(encode.detach(), bias.detach(), decode.detach(), centre.detach(), k)
    return made, float((~fired).float().mean())


def _top(activations: Tensor, k: int) -> Tensor:
    """[N, m] with all but the k largest of each row at 0."""
    best = activations.topk(k, dim=1)
    return torch.zeros_like(activations).scatter(1, best.indices, best.values)


def matched_share(one: Dictionary, other: Dictionary, least: float = 0.9) -> float:
    """Share of the first one's directions that the other has too, at a cosine of at least ``least``."""
    a, b = (torch.nn.functional.normalize(d.decode, dim=1) for d in (one, other))
    return float(((a @ b.T).amax(1) > least).float().mean())
