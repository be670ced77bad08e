"""Training losses over the catalogue: one choice for every model that scores by ``hidden . item vector``.

Shapes: N predicted positions (real ones only), D width, V = n_items + 1 rows of the item table (row 0 is the pad), K negatives.

    softmax           -log softmax(h E^T)[target] over the whole catalogue; exact; chunked, never more than CHUNK_VALUES logits at once
                      (by positions, and for tables of more than WIDE_TABLE rows by items: ``recbench.nn.losses.wide_softmax``)
    sampled_softmax   the same with K negatives, shared by the batch or drawn anew for each position (``negatives``). With ``logq`` a negative
                      that is drawn with probability q counts as exp(s) / (K q), which estimates the exact loss [Bengio and Senecal
                      2008; Jean et al. 2015]; without, it counts as exp(s), as the cross-entropy over 1 + K items does [eSASRec, HSTU]
    bce               -log sigma(s+) - mean of log(1 - sigma(s-)) over K negatives of each position [Kang and McAuley 2018, with K = 1]
    gbce              bce whose positive term is weighted by beta = 1 - t (1 - alpha), alpha = K / (n_items - 1)
                      [Petrov and Macdonald 2023, eq. 9]; sigma(s)^beta needs no transform of the score here, because the
                      logarithm turns it into beta log sigma(s)
    bpr_max           -log of the mean of sigma(s+ - s-) weighted by softmax(s-), plus ``bpr_reg`` times the mean of s-^2 under the same
                      weights; scores pass through an ELU first [Hidasi and Karatzoglou, CIKM 2018, eq. 10, and the authors' code]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.nn.losses.buffers import workspace
from recbench.nn.losses.forward_gradients import MadeGradients, surprise
from recbench.nn.losses.means import mean_of
from recbench.nn.losses.shared_negatives import shared_softmax
from recbench.nn.losses.wide_softmax import WideSoftmax

LOSSES = ("softmax", "sampled_softmax", "bce", "gbce", "bpr_max")

#: Logits that exist at the same time: 8 M values are 16 MB in bfloat16, which stays in a server's last-level cache.
CHUNK_VALUES = 8 * 2**20

#: Tables of more rows than this are cut by items and not by positions: of a million items only 8 positions would fit into a chunk, and every
#: chunk would add a gradient as large as the table to another. (At this size a chunk still holds 64 positions.)
WIDE_TABLE = 1 << 17

#: Negatives of each position are read out of the product with the whole table where it has at most this many rows a negative: gathering
#: K vectors a position, and scattering their gradients back, then costs more than the product. (Forward and backward at 512 positions, width
#: 128, 256 negatives, one core: 12,102 rows 160 ms for the product against 227; at 60,000 rows 990 against 510.)
ROWS_PER_NEGATIVE = 50

#: What the authors of BPR-max bend scores below zero with, so that the regulariser stops pushing at those that are far down already.
ELU_ALPHA = 0.5


@dataclass
class LossConfig:
    """The loss part of a model's config; the defaults train with the exact softmax."""

    loss: str = "softmax"
    n_negatives: int = 1024
    sampling: str = "uniform"  # of negatives: uniform | popularity
    gbce_t: float = 0.75  # calibration: 0 is bce, 1 is fully calibrated
    # Of sampled_softmax and bpr_max: shared by the batch | per_position. The binary losses draw for each position always.
    negatives: str = field(default="shared", metadata=LATER)
    # Of sampled_softmax: correct for how likely each draw was.
    logq: bool = field(default=True, metadata=LATER)
    sampling_power: float = field(default=1.0, metadata=LATER)  # popularity counts to this power
    bpr_reg: float = field(default=1.0, metadata=LATER)  # weight of bpr_max's regulariser


class CatalogueLoss(nn.Module):
    """Loss of hidden states against the item table, as its config says."""

    sampling_weights: Tensor

    def __init__(self, config: LossConfig, n_items: int, item_counts: Tensor | None = None) -> None:
        super().__init__()
        if config.loss not in LOSSES:
            raise UserError(f"unknown model.loss '{config.loss}'; known: {', '.join(LOSSES)}")
        if config.sampling not in ("uniform", "popularity"):
            raise UserError(f"unknown model.sampling '{config.sampling}'; known: uniform, popularity")
        if config.loss != "softmax" and config.n_negatives < 1:
            raise UserError(
                f"model.n_negatives must be at least 1 for the loss '{config.loss}', not {config.n_negatives}"
            )
        if config.negatives not in ("shared", "per_position"):
            raise UserError(f"unknown model.negatives '{config.negatives}'; known: shared, per_position")
        self.config, self.n_items = config, n_items
        self.bfloat16_logits = False
        #: Whether the gradient of the table is to hold the rows that a step looked up, and no others (``training.embedding_gradients``).
        self.sparse_gradients = False
        weights = torch.ones(n_items + 1)
        if config.sampling == "popularity" and item_counts is not None:
            weights = (item_counts.float() + 1.0) ** config.sampling_power  # add one: every item must stay reachable
        weights[0] = 0.0
        # Not stored: it follows from the training data, which the run key names.
        self.register_buffer("sampling_weights", weights / weights.sum(), persistent=False)

    def forward(self, hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """hidden [N, D], table [V, D], targets [N] int64 in 1..n_items -> scalar mean loss, weighted where there are weights [N]."""
        if self.config.loss == "softmax":
            return full_softmax(hidden, table, targets, self.bfloat16_logits, weights)
        if self.config.loss in ("bce", "gbce"):
            return self._binary(hidden, table, targets, weights)
        if self.config.loss == "sampled_softmax" and self.config.negatives == "shared":
            return self._shared_softmax(hidden, table, targets, weights)
        positive, scores, log_expected, taken = self._against_negatives(hidden, table, targets)
        if self.config.loss == "bpr_max":
            return bpr_max(positive, scores, taken, self.config.bpr_reg, weights)
        return softmax_over(positive, scores - log_expected if self.config.logq else scores, taken, weights)

    def uniform(self) -> float | None:
        """The loss of a model that scores all items alike (all 0); None for bpr_max, which compares scores and guesses none."""
        k = self.config.n_negatives
        if self.config.loss == "softmax" or (self.config.loss == "sampled_softmax" and self.config.logq):
            return math.log(self.n_items)
        if self.config.loss == "sampled_softmax":
            return math.log(1 + k)
        if self.config.loss == "bpr_max":
            return None
        return 2 * math.log(2) if self.config.loss == "bce" else (self._beta() + k) / (k + 1) * math.log(2)

    def _beta(self) -> float:
        """The weight of gbce's positive term."""
        alpha = min(1.0, self.config.n_negatives / max(self.n_items - 1, 1))
        return 1.0 - self.config.gbce_t * (1.0 - alpha)

    def vectors(self, table: Tensor, items: Tensor) -> Tensor:
        """Rows of the table [V, D] for ``items`` of any shape."""
        return F.embedding(items, table, sparse=True) if self.sparse_gradients else table[items]

    def _scores_of_own(self, hidden: Tensor, table: Tensor, items: Tensor) -> Tensor:
        # A product with the whole table has a gradient as large as the table.
        if self.sparse_gradients:
            return torch.einsum("nd,nkd->nk", hidden, self.vectors(table, items))
        return scores_of_own(hidden, table, items)

    def _draw(self, shape: tuple[int, ...]) -> Tensor:
        if self.config.sampling == "uniform":
            return torch.randint(1, self.n_items + 1, shape, device=self.sampling_weights.device)
        count = int(torch.Size(shape).numel())
        return torch.multinomial(self.sampling_weights, count, replacement=True).view(shape)

    def _shared_softmax(self, hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        drawn = self._draw((self.config.n_negatives,))
        vectors = self.vectors(table, targets), self.vectors(table, drawn)
        expected = self._log_expected(drawn) if self.config.logq else None
        return shared_softmax(hidden, *vectors, targets, drawn, expected, weights)

    def _log_expected(self, drawn: Tensor) -> Tensor:
        return (self.config.n_negatives * self.sampling_weights[drawn]).log()

    def _against_negatives(
        self, hidden: Tensor, table: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scores of the target [N] and of drawn negatives [N, K], the log of how often each was to be expected [K] or [N, K], and where
        a negative is the target itself, which is in the sum as the positive already [N, K]."""
        k = self.config.n_negatives
        positive = (hidden * self.vectors(table, targets)).sum(-1)
        if self.config.negatives == "shared":
            negatives = self._draw((k,))
            scores = hidden @ self.vectors(table, negatives).T
        else:
            negatives = self._draw((len(targets), k))
            scores = self._scores_of_own(hidden, table, negatives)
        return positive, scores, self._log_expected(negatives), negatives == targets[:, None]

    def _binary(self, hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        k = self.config.n_negatives
        negatives = self._draw((len(targets), k))
        positive = (hidden * self.vectors(table, targets)).sum(-1)
        scores = self._scores_of_own(hidden, table, negatives)
        pushed_down = F.softplus(scores).masked_fill(negatives == targets[:, None], 0.0)
        if self.config.loss == "bce":
            return mean_of(F.softplus(-positive) + pushed_down.mean(1), weights)
        return mean_of((self._beta() * F.softplus(-positive) + pushed_down.sum(1)) / (k + 1), weights)


def scores_of_own(hidden: Tensor, table: Tensor, items: Tensor) -> Tensor:
    """Scores [N, K] of the items [N, K] that each position was given. hidden [N, D], table [V, D]."""
    if len(table) <= ROWS_PER_NEGATIVE * items.shape[1]:
        return (hidden @ table.T).gather(1, items)
    return torch.einsum("nd,nkd->nk", hidden, table[items])


def softmax_over(positive: Tensor, scores: Tensor, taken: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of the target among itself and its negatives. positive [N], scores [N, K]; ``taken`` [N, K] leaves some out."""
    scores = scores.masked_fill(taken, -torch.inf)
    return mean_of(torch.cat([positive[:, None], scores], dim=1).logsumexp(1) - positive, weights)


def bpr_max(positive: Tensor, scores: Tensor, taken: Tensor, reg: float, weights: Tensor | None = None) -> Tensor:
    """Mean BPR-max loss; see the head of this file. positive [N], scores [N, K]; negatives where ``taken`` [N, K] have no weight.

    -log sum_j w_j sigma(s+ - s_j) + reg * sum_j w_j s_j^2, with w the softmax of the negatives' scores.
    """
    positive, scores = F.elu(positive, ELU_ALPHA), F.elu(scores, ELU_ALPHA)
    # A finite mask: a position whose every negative is its target then has a constant loss, where -inf would give NaN.
    log_weight = scores.masked_fill(taken, -1e4).log_softmax(1)
    won = (log_weight + F.logsigmoid(positive[:, None] - scores)).logsumexp(1)
    return mean_of(reg * (log_weight.exp() * scores.square()).sum(1) - won, weights)


def full_softmax(
    hidden: Tensor, table: Tensor, targets: Tensor, bfloat16: bool = False, weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy of ``hidden @ table.T`` against targets over items 1..n_items; the pad row takes no part.

    hidden [N, D], table [V, D], targets [N], weights [N] of the mean. With ``bfloat16`` the three matrix products and the softmax run in bfloat16
    (each still accumulated in float32); the loss then carries a rounding error of about 0.002 a position.
    """
    # Its precision is its own affair: under mixed precision the gradient of the table would be rounded chunk by chunk.
    with torch.autocast(hidden.device.type, enabled=False):
        if len(table) > WIDE_TABLE:
            return WideSoftmax.apply(hidden, table, targets, bfloat16, CHUNK_VALUES, weights)
        return _ChunkedSoftmax.apply(hidden, table, targets, bfloat16, weights)


class _ChunkedSoftmax(MadeGradients):
    """Loss and both gradients in one pass over row chunks, so that a chunk of logits is used while it is still in cache.

    ``torch.nn.functional.linear_cross_entropy`` does the same job in general; on two CPU cores at 12,102 x 64 it takes 3.7 to 4.8
    times as long as this in bfloat16 (``benchmarks/losses.py``), because it computes the logits again for the backward pass and allocates anew.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, bfloat16: bool, weights: Tensor | None
    ) -> Tensor:
        dtype = torch.bfloat16 if bfloat16 else torch.float32
        n, rows = len(targets), max(1, CHUNK_VALUES // len(table))
        total: float | Tensor = n if weights is None else weights.sum()
        narrow_table, narrow_hidden = table.detach().to(dtype), hidden.detach().to(dtype)
        want_hidden, want_table = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(narrow_hidden) if want_hidden else None
        grad_table: Tensor | None = None
        logits = workspace(min(rows, n) * len(table), dtype, table.device)
        losses = []
        for first in range(0, n, rows):
            states, chosen = narrow_hidden[first : first + rows], targets[first : first + rows, None]
            p = softmax_into(logits, states, narrow_table)
            probability = p.gather(1, chosen).float()
            each = surprise(probability)
            own = None if weights is None else weights[first : first + rows, None]
            losses.append(each.sum() if own is None else (each * own).sum())
            # p becomes the gradient of the loss by the logits: softmax minus one at the target.
            # (index_put_, because scatter_ copies the whole matrix in bfloat16.)
            p.index_put_(
                (torch.arange(len(states), device=p.device), chosen[:, 0]), (probability[:, 0] - 1.0).to(dtype)
            )
            if own is not None:
                p.mul_(own.to(dtype))
            if grad_hidden is not None:
                torch.mm(p, narrow_table, out=grad_hidden[first : first + rows])
            if want_table:
                added = p.T @ states
                grad_table = added.float() if grad_table is None else grad_table.add_(added)
        ctx.grads = (
            None if grad_hidden is None else grad_hidden.to(hidden.dtype).div_(total),
            None if grad_table is None else grad_table.div_(total).to(table.dtype),
        )
        return torch.stack(losses).sum() / total


def softmax_into(buffer: Tensor, states: Tensor, table: Tensor) -> Tensor:
    """The softmax of ``states @ table.T`` over all rows but the pad, [N, V], in a flat buffer of at least so many values. No gradient."""
    p = buffer[: len(states) * len(table)].view(len(states), len(table))
    torch.mm(states, table.T, out=p)
    p[:, 0] = -torch.inf
    torch.ops.aten._softmax.out(p, -1, False, out=p)
    return p
