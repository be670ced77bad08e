"""The exact softmax loss over a catalogue so wide that its table is cut into blocks of items.

For N positions and a block of items, logits are a product of all positions with the block; so the table is read twice a step, its gradient
is written once, block by block, and no more than ``block_values`` logits exist at a time, whatever the catalogue.

    first pass    log-sum-exp of each position, block by block [Milakov and Gimelshein 2018: a running maximum and the sum under it]
    second pass   the logits again, p = exp(logit - log-sum-exp), and from p - 1{target} both gradients

The logits are computed twice, which is a fourth product; cut by positions they are computed once, but a chunk then holds only a few
positions, so that the products are thin and a gradient as large as the table is added up once a chunk.
With bfloat16 the operands of the products are rounded to it, and the logits and p once more; sums and exponentials are float32.

Shapes: N positions, D width, V = n_items + 1 rows of the table (row 0 is the pad and takes no part), W items of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recbench.nn.losses.buffers import workspace
from recbench.nn.losses.forward_gradients import MadeGradients
from recbench.nn.losses.means import mean_of

#: A block has at least this many items, however many positions there are: thinner products are slow.
LEAST_ITEMS = 1024


class WideSoftmax(MadeGradients):
    """Mean of -log softmax(hidden @ table.T)[target] over items 1 .. V - 1, and both gradients, made in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        table: Tensor,
        targets: Tensor,
        bfloat16: bool,
        block_values: int,
        weights: Tensor | None = None,
    ) -> Tensor:
        """hidden [N, D], table [V, D], targets [N] int64 in 1 .. V - 1 -> scalar, weighted where there are weights [N]."""
        width = min(len(table), max(LEAST_ITEMS, block_values // max(len(targets), 1)))
        kind = torch.bfloat16 if bfloat16 else table.dtype
        work = _Work(hidden.detach().to(kind), table.detach(), targets, width)
        total = work.log_sum_exp()
        loss = mean_of(total - work.own, weights)
        want_hidden, want_table = ctx.needs_input_grad[:2]
        ctx.grads = (None, None)
        if want_hidden or want_table:
            of_hidden, of_table = work.gradients(total, want_hidden, want_table, weights)
            ctx.grads = None if of_hidden is None else of_hidden.to(hidden.dtype), of_table
        return loss


@dataclass
class _Block:
    """Items first .. first + W - 1: their vectors [W, D] and the logits [N, W] of all positions, which the next block overwrites."""

    first: int
    vectors: Tensor
    logits: Tensor


class _Work:
    """One step: states [N, D] in the type of the products, table [V, D], targets [N], W the items of a block."""

    def __init__(self, states: Tensor, table: Tensor, targets: Tensor, width: int) -> None:
        self.states, self.table, self.targets, self.width = states, table, targets, width
        self.rows = torch.arange(len(targets), device=targets.device)
        #: Of the products, and of what is summed up.
        self.narrow = states.dtype
        self.exact = torch.float32 if self.narrow == torch.bfloat16 else self.narrow
        #: [N] logits of the targets; filled by ``log_sum_exp``.
        self.own = torch.zeros(len(targets), dtype=self.exact, device=targets.device)
        self._products = workspace(len(targets) * width, self.narrow, targets.device)
        self._logits = workspace(len(targets) * width, self.exact, targets.device)

    def blocks(self) -> Iterator[_Block]:
        n = len(self.states)
        for first in range(0, len(self.table), self.width):
            vectors = self.table[first : first + self.width].to(self.narrow)
            product = self._products[: n * len(vectors)].view(n, len(vectors))
            torch.mm(self.states, vectors.T, out=product)
            logits = self._logits[: product.numel()].view_as(product)
            if logits.dtype != product.dtype:
                logits.copy_(product)
            if first == 0:
                logits[:, 0] = -torch.inf
            yield _Block(first, vectors, logits)

    def inside(self, block: _Block) -> tuple[Tensor, Tensor]:
        """(rows, columns) of the targets that are items of the block."""
        column = self.targets - block.first
        here = ((column >= 0) & (column < len(block.vectors))).nonzero()[:, 0]
        return self.rows[here], column[here]

    def log_sum_exp(self) -> Tensor:
        """[N] over all items."""
        greatest = torch.full_like(self.own, -torch.inf)
        total = torch.zeros_like(self.own)
        for block in self.blocks():
            row, column = self.inside(block)
            self.own[row] = block.logits[row, column]
            highest = torch.maximum(greatest, block.logits.amax(1))
            total.mul_((greatest - highest).exp_()).add_(block.logits.sub_(highest[:, None]).exp_().sum(1))
            greatest = highest
        return greatest + total.log()

    def gradients(
        self, total: Tensor, want_hidden: bool, want_table: bool, weights: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Of the mean loss by hidden [N, D] and by the table [V, D]; None where not asked for. weights [N]: of the mean."""
        n: int | Tensor = len(self.states) if weights is None else weights.sum()
        of_hidden = torch.zeros_like(self.states, dtype=self.exact) if want_hidden else None
        of_table = torch.empty_like(self.table) if want_table else None
        for block in self.blocks():
            p = block.logits.sub_(total[:, None]).exp_()
            p[self.inside(block)] -= 1.0
            if weights is not None:
                p.mul_(weights[:, None])
            narrow = p.to(self.narrow)
            if of_hidden is not None:
                of_hidden += narrow @ block.vectors
            if of_table is not None:
                part = of_table[block.first : block.first + len(block.vectors)]
                part.copy_(narrow.T @ self.states).div_(n)
        return None if of_hidden is None else of_hidden.div_(n), of_table
