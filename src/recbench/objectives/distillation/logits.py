"""Logits: the student's softened distribution over the whole catalogue is to equal the teacher's [Hinton et al., arXiv 1503.02531, section 2].

    L = weight * T^2 * mean over positions of KL( softmax(t / T) || softmax(s / T) ),   T -> ``temperature``

with t and s the scores of teacher and student for items 1..n_items. T^2 keeps the size of the gradients as T changes, as in the paper.

Deviations. The paper mixes this with the student's own loss as a weighted mean; here it is added to it. Any model that scores the catalogue
may teach, and its scores are taken as they are: those of a model that was not trained by a softmax have no natural scale (markov's are
probabilities, which at T = 2 are nearly uniform), so choose T to suit them, as in ``distillation.temperature=0.05``.

Of a teacher with hidden states its queries are read, [N, E], and its item vectors held here; of any other its scores, [N, V], for all the
positions of a step at once. The product with the catalogue is done in chunks, never more than ``losses.CHUNK_VALUES`` values at a time.

Shapes: N real positions of a batch, D and E widths of the item vectors of student and teacher, V = n_items + 1 (row 0 is the pad).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbench.data.batches import Batch
from recbench.models.base import Recommender
from recbench.models.sequence_model import SequenceModel
from recbench.nn.losses import catalogue
from recbench.objectives.distillation.base import Objective, register
from recbench.objectives.distillation.configs import LogitsDistillation
from recbench.objectives.distillation.scoring import final_queries, full_scores


@register("logits")
class LogitsObjective(Objective):
    """See the head of this file."""

    teacher_items: Tensor | None

    def __init__(self, config: LogitsDistillation, student: SequenceModel, teacher: Recommender) -> None:
        super().__init__()
        self.weight, self.temperature = config.weight, config.temperature
        self.n_items = teacher.n_items
        vectors = teacher.item_vectors().detach().float().clone() if isinstance(teacher, SequenceModel) else None
        # The teacher's: it moves with the student but is not stored with it.
        self.register_buffer("teacher_items", vectors, persistent=False)

    def reading(self) -> dict[str, Any]:
        if self.teacher_items is None:
            return {"kind": "scores", "columns": self.n_items + 1}
        return {"kind": "queries"}

    def read(self, teacher: Recommender, batch: Batch) -> dict[str, Tensor]:
        if isinstance(teacher, SequenceModel):
            return {"queries": final_queries(teacher, batch)}
        return {"scores": full_scores(teacher, batch)}

    def terms(
        self, student: SequenceModel, states: list[Tensor], taught: dict[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        queries = student.queries(states[-1][batch.mask])
        theirs = taught["scores"] if self.teacher_items is None else taught["queries"]
        narrow = student.loss.bfloat16_logits
        kl = catalogue_kl(
            queries, student.item_vectors(), theirs.detach(), self.teacher_items, self.temperature, narrow
        )
        return {"logits": self.weight * self.temperature**2 * kl}


def catalogue_kl(
    queries: Tensor,
    table: Tensor,
    taught: Tensor,
    taught_table: Tensor | None,
    temperature: float,
    bfloat16: bool = False,
) -> Tensor:
    """Mean over positions of KL(softmax(t / T) || softmax(s / T)) over items 1..n_items; gradients for ``queries`` and ``table`` only.

    queries [N, D] and table [V, D] give s; t = taught @ taught_table.T of [N, E] and [V, E], or taught itself [N, V] without a table.
    With ``bfloat16`` the matrix products run in bfloat16; the softmax stays in float32.
    """
    return _ChunkedKL.apply(queries, table, taught, taught_table, temperature, bfloat16)


class _ChunkedKL(torch.autograd.Function):
    """Loss and both gradients in one pass over row chunks, as in ``losses``; d KL / d s = (q - p) / T for q student and p teacher."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        table: Tensor,
        taught: Tensor,
        taught_table: Tensor | None,
        temperature: float,
        bfloat16: bool,
    ) -> Tensor:
        dtype = torch.bfloat16 if bfloat16 else torch.float32
        # Without the pad's row: it takes no part, and its gradient stays zero.
        mine, items = queries.detach().to(dtype), table.detach()[1:].to(dtype)
        theirs = taught.detach().to(dtype) if taught_table is not None else taught.detach().float()
        their_items = None if taught_table is None else taught_table.detach()[1:].to(dtype)
        want_queries, want_table = ctx.needs_input_grad[:2]
        grad_queries = torch.empty(mine.shape, device=mine.device) if want_queries else None
        grad_table = torch.zeros(table.shape, device=table.device) if want_table else None
        n, columns = len(mine), len(items)
        # Three matrices of a chunk exist at once: log q, log p and p.
        rows = max(1, catalogue.CHUNK_VALUES // (3 * columns))
        space = torch.empty(3, min(rows, n) * columns, device=mine.device)
        sums = []
        for first in range(0, n, rows):
            part = slice(first, first + rows)
            block = mine[part]
            log_q, log_p, p = (flat[: len(block) * columns].view(len(block), columns) for flat in space)
            _log_softmax(log_q, block, items, temperature)
            if their_items is None:
                log_p.copy_(theirs[part, 1:]).div_(temperature)
                torch.ops.aten._log_softmax.out(log_p, -1, False, out=log_p)
            else:
                _log_softmax(log_p, theirs[part], their_items, temperature)
            torch.exp(log_p, out=p)
            difference = log_p.sub_(log_q)
            sums.append((p[:, None] @ difference[:, :, None]).sum())
            slope = log_q.exp_().sub_(p).to(dtype)  # q - p
            if grad_queries is not None:
                grad_queries[part] = slope @ items
            if grad_table is not None:
                grad_table[1:].add_(slope.T @ block)
        factor = 1.0 / (n * temperature)
        ctx.grad_queries = None if grad_queries is None else grad_queries.mul_(factor).to(queries.dtype)
        ctx.grad_table = None if grad_table is None else grad_table.mul_(factor).to(table.dtype)
        return torch.stack(sums).sum() / n

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.grad_queries is None and ctx.grad_table is None:
            raise RuntimeError("the gradients of catalogue_kl can be taken once only; compute it again")
        given = tuple(None if g is None else g.mul_(grads[0]) for g in (ctx.grad_queries, ctx.grad_table))
        ctx.grad_queries = ctx.grad_table = None
        return (*given, None, None, None, None)


def _log_softmax(out: Tensor, queries: Tensor, items: Tensor, temperature: float) -> None:
    """out [n, V - 1] float32 <- log softmax of queries [n, E] times items [V - 1, E], divided by the temperature."""
    if items.dtype == out.dtype:
        torch.mm(queries, items.T, out=out)
    else:
        out.copy_(queries @ items.T)
    out.div_(temperature)
    torch.ops.aten._log_softmax.out(out, -1, False, out=out)
