"""Ranking: the student keeps the order of the teacher's best items, and all of them above the rest [Kang et al., CIKM 2020, section 3.2: RRD].

i_1 .. i_K are the teacher's K best items at a position, best first; u_1 .. u_M items from the rest of the catalogue; s the student's scores:

    L = - weight * mean over positions of 1/K sum over k of log  exp s(i_k) / ( sum_{j >= k} exp s(i_j) + sum_m exp s(u_m) )

the Plackett-Luce likelihood of the list in which the order among the M uninteresting items does not count ("relaxed ranking distillation").
``repair`` adds the loss of ``repair.py`` over the student's own list.

Deviations. The paper draws its K items from the head of the teacher's list with a probability that falls with their rank, anew in each epoch;
here they are the best K, so that they can be stored once. Its M items are drawn for each user; here one draw of M serves all
positions of a step, and an item that is among the K of a position does not count there. The likelihood is divided by K, so that the weight need
not change with it. Items of the history are not left out of the teacher's list: they are not in training either.

Shapes: N real positions of a batch, E width of the item vectors, K -> ``top_k``, M -> ``n_uninteresting``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbench.data.batches import Batch
from recbench.models.base import Recommender
from recbench.models.sequence_model import SequenceModel
from recbench.objectives.distillation.base import Objective, register
from recbench.objectives.distillation.configs import RankingDistillation
from recbench.objectives.distillation.repair import repair_loss
from recbench.objectives.distillation.scoring import best_items

#: The score of what does not count. Finite, so that no gradient becomes the difference of two infinities.
NEGLIGIBLE = -1e30


@register("ranking")
class RankingObjective(Objective):
    """See the head of this file. A catalogue of fewer than K items is ranked whole."""

    def __init__(self, config: RankingDistillation, student: SequenceModel, teacher: Recommender) -> None:
        super().__init__()
        self.weight, self.n_uninteresting, self.repair = config.weight, config.n_uninteresting, config.repair
        self.n_items, self.top_k = teacher.n_items, min(config.top_k, teacher.n_items)

    def reading(self) -> dict[str, Any]:
        return {"kind": "best", "top_k": self.top_k}

    def read(self, teacher: Recommender, batch: Batch) -> dict[str, Tensor]:
        return {"best": best_items(teacher, batch, self.top_k)}

    def terms(
        self, student: SequenceModel, states: list[Tensor], taught: dict[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        return self.of_queries(student.queries(states[-1][batch.mask]), student.item_vectors(), taught["best"].long())

    def of_queries(
        self, queries: Tensor, vectors: Tensor, best: Tensor, barred: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The terms of queries [N, E] and item vectors [V, E], for lists [N, K]; barred [N, L]: items that the teacher would never list."""
        drawn = torch.randint(1, self.n_items + 1, (self.n_uninteresting,), device=best.device)
        wanted = torch.einsum("ne,nke->nk", queries, vectors[best])
        below = queries @ vectors[drawn].T
        below = below.masked_fill((drawn == best[:, :, None]).any(1), NEGLIGIBLE)
        found = {"ranking": self.weight * relaxed_list_loss(wanted, below, best > 0)}
        if self.repair:
            found["repair"] = self.repair * repair_loss(queries, vectors, best, barred)
        return found


def relaxed_list_loss(wanted: Tensor, below: Tensor, real: Tensor) -> Tensor:
    """Mean negative log likelihood of the lists, by position and then over positions.

    wanted [N, K]: the student's scores of the teacher's best items, best first; below [N, M]: of the uninteresting ones, NEGLIGIBLE where
    one does not count; real [N, K] bool: False where a list holds no item.
    """
    wanted = wanted.masked_fill(~real, NEGLIGIBLE)
    # From the end of the list to its head: what is left at the k-th step are the items from k on, and all that lie below.
    rest = below.logsumexp(1, keepdim=True) if below.shape[1] else wanted.new_full((len(wanted), 1), NEGLIGIBLE)
    left = torch.cat([rest, wanted.flip(1)], dim=1).logcumsumexp(1)[:, 1:].flip(1)
    each = (left - wanted).masked_fill(~real, 0.0)
    return (each.sum(1) / real.sum(1).clamp_min(1)).mean()
