"""Codebooks of residual quantisation that are learned beside a network or alone, and the short loop that trains them.

    L_l = ||sg[r_l] - e||^2 + beta ||r_l - sg[e]||^2,   e = e_{l,c_l}
sg stops the gradient: the first term draws the code to the residual, the second (commitment) the encoder to the code
[van den Oord et al., 2017, equation 3; residual form: Rajput et al., NeurIPS 2023, section 3.1].

Shapes: B rows of a batch, N all rows, D width, M levels, K codes of a level.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.nn.codes.quantization import kmeans_codebook, nearest_codes, sinkhorn, uniform_codes

logger = logging.getLogger(__name__)

#: Rows that the codebooks are first set on, and rounds of Lloyd's algorithm for it.
SEED_ROWS, SEED_ROUNDS = 20_000, 10
#: How much of the old mean a moving average keeps at a step.
EMA_DECAY = 0.99


class Coded(NamedTuple):
    """codes [B, M] int64, quantised vectors [B, D] with the gradient of the input, loss (scalar)."""

    codes: Tensor
    vectors: Tensor
    loss: Tensor


class LearnedCodebooks(nn.Module):
    """M codebooks of K vectors. ``seed_on`` must be called before anything else."""

    usage: Tensor  # [M, K] how often each code was used since the last revival

    def __init__(self, levels: int, size: int, width: int, beta: float, normalize: bool, uniform_last: bool) -> None:
        super().__init__()
        self.levels, self.size, self.beta = levels, size, beta
        self.normalize, self.uniform_last = normalize, uniform_last
        self.books = nn.Parameter(torch.zeros(levels, size, width))
        self.register_buffer("usage", torch.zeros(levels, size))

    def prepared(self, residual: Tensor) -> Tensor:
        return F.normalize(residual, dim=-1) if self.normalize else residual

    def forward(self, x: Tensor) -> Coded:
        """x [B, D] -> codes, their sum with the gradient passed straight through, and the loss of all levels."""
        residual, scale = x, x.new_ones(len(x), 1)
        total, loss, codes = torch.zeros_like(x), x.new_zeros(()), []
        for level in range(self.levels):
            if self.normalize:
                scale = scale * residual.norm(dim=-1, keepdim=True)
            residual = self.prepared(residual)
            code = self._choose(residual.detach(), level)
            chosen = self.books[level][code]
            loss = loss + F.mse_loss(chosen, residual.detach()) + self.beta * F.mse_loss(residual, chosen.detach())
            total = total + scale.detach() * chosen
            # The next level codes what this one leaves over; the codes themselves learn from their own level alone.
            residual = residual - chosen.detach()
            codes.append(code)
            if self.training:
                self.usage[level] += torch.bincount(code, minlength=self.size)
        return Coded(torch.stack(codes, 1), x + (total - x).detach(), loss)

    def _choose(self, residual: Tensor, level: int) -> Tensor:
        distances = torch.cdist(residual, self.books[level].detach()).square()
        if self.uniform_last and level == self.levels - 1:
            return torch.from_numpy(sinkhorn(distances.cpu().numpy()).argmax(1)).to(residual.device)
        return distances.argmin(1)

    @torch.no_grad()
    def residuals(self, x: Tensor, level: int) -> Tensor:
        """[N, D]: what the levels before this one leave over of x, as this level codes it."""
        residual = self.prepared(x)
        for before in range(level):
            code = torch.from_numpy(nearest_codes(residual.cpu().numpy(), self.books[before].cpu().numpy()))
            residual = self.prepared(residual - self.books[before][code.to(x.device)])
        return residual

    @torch.no_grad()
    def seed_on(self, x: Tensor, seed: int) -> None:
        """Set the codebooks to k-means centres (k-means++, a few rounds) of the residuals of up to SEED_ROWS rows of x [N, D]."""
        if len(x) > SEED_ROWS:
            x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:SEED_ROWS].to(x.device)]
        for level in range(self.levels):
            rows = self.residuals(x, level).cpu().numpy()
            book = kmeans_codebook(rows, self.size, seed + level, SEED_ROUNDS)
            self.books[level] = torch.from_numpy(book).to(x.device)

    @torch.no_grad()
    def revive(self, x: Tensor, generator: torch.Generator) -> int:
        """Put every code that was not used since the last call on a random residual of its level; returns how many. x [N, D]."""
        moved = 0
        for level in range(self.levels):
            dead = torch.nonzero(self.usage[level] == 0)[:, 0]
            # A catalogue cannot use more codes than it has items.
            dead = dead[: max(0, len(x) - (self.size - len(dead)))]
            if len(dead):
                rows = torch.randint(len(x), (len(dead),), generator=generator).to(x.device)
                self.books[level, dead] = self.residuals(x, level)[rows]
                moved += len(dead)
        self.usage.zero_()
        return moved

    @torch.no_grad()
    def assign(self, x: Tensor) -> tuple[np.ndarray, Tensor]:
        """(codes [N, M] int64, their vectors [N, D]) of all items: nearest codes, and where asked the uniform mapping at the last level."""
        residual, scale = x, x.new_ones(len(x), 1)
        total, codes = torch.zeros_like(x), []
        for level in range(self.levels):
            if self.normalize:
                scale = scale * residual.norm(dim=-1, keepdim=True)
            residual = self.prepared(residual)
            choose = uniform_codes if self.uniform_last and level == self.levels - 1 else nearest_codes
            code = choose(residual.cpu().numpy(), self.books[level].cpu().numpy())
            chosen = self.books[level][torch.from_numpy(code).to(x.device)]
            total = total + scale * chosen
            residual = residual - chosen
            codes.append(code)
        return np.stack(codes, 1), total


class MovingAverages:
    """Codebooks as moving averages of the residuals that choose them, in place of gradient steps.

    N_k <- g N_k + (1 - g) n_k,   m_k <- g m_k + (1 - g) sum of residuals,   e_k = m_k / N_k     [van den Oord et al., 2017, appendix A]
    """

    def __init__(self, codebooks: LearnedCodebooks) -> None:
        self.codebooks = codebooks
        self.counts = torch.ones(codebooks.levels, codebooks.size, 1, device=codebooks.books.device)

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        """One batch x [B, D]; returns the loss before it (scalar)."""
        coded = self.codebooks(x)
        books, residual = self.codebooks.books, x
        for level in range(self.codebooks.levels):
            residual = self.codebooks.prepared(residual)
            code = coded.codes[:, level]
            chosen = books[level][code]
            n = torch.bincount(code, minlength=self.codebooks.size).to(x.dtype)[:, None]
            sums = torch.zeros_like(books[level]).index_add_(0, code, residual)
            before = self.counts[level]
            # A code that is not chosen keeps its place; its count fades, so that the next rows to choose it move it fast.
            after = EMA_DECAY * before + (1 - EMA_DECAY) * n
            mean = (EMA_DECAY * before * books[level] + (1 - EMA_DECAY) * sums) / after.clamp_min(1e-12)
            books[level] = torch.where(n > 0, mean, books[level])
            self.counts[level] = after
            residual = residual - chosen
        return coded.loss


def train_codes(
    label: str,
    x: Tensor,
    epochs: int,
    batch: int,
    seed: int,
    step: Callable[[Tensor], Tensor],
    after_epoch: Callable[[int, torch.Generator], None],
) -> float:
    """Show the rows x [N, D] in a new order every epoch; ``step`` learns from a batch and returns its loss. Returns the last epoch's mean loss.

    Raises UserError as soon as a loss is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    mean, said = 0.0, 0
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=generator).to(x.device)
        losses = torch.stack([step(x[rows]).detach() for rows in order.split(batch)])
        mean = float(losses.mean())
        if not np.isfinite(mean):
            raise UserError(f"{label}: the loss became {mean} in epoch {epoch + 1}; a smaller model.lr may help")
        after_epoch(epoch, generator)
        if 10 * (epoch + 1) // epochs > said:
            said = 10 * (epoch + 1) // epochs
            logger.info("%s  epoch %d/%d  loss %.5f", label, epoch + 1, epochs, mean)
    return mean
