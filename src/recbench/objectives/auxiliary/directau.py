"""DirectAU: the vectors of a user and its item are drawn together, those of a batch pushed apart; no negatives [Wang et al., KDD 2022].

    L = mean |u - i|^2  +  uniformity * (l(users of the batch) + l(items of the batch)) / 2,   l(x) = log mean over pairs exp(-2 |x - y|^2)

with vectors of length 1. Beside BPR it is a term; alone, as in the paper, with ``model.bpr_weight=0`` (``model=directau``). On ``bpr_mf`` it
needs no graph at all. It compares all pairs of a batch, so its work grows with the square of ``training.batch_size``: keep that at most at 2,048.

Glossary: gamma -> ``uniformity``. Deviations: none known; rows that stand twice in a batch are compared too, as in the authors' code.
"""

from __future__ import annotations

from torch import Tensor

from recbench.models.collaborative.entities import EntityModel, Step
from recbench.nn.losses.uniformity import uniformity
from recbench.objectives.auxiliary.base import UserItemAuxiliary, rows
from recbench.objectives.contrastive.base import register


@register("directau")
class DirectAU(UserItemAuxiliary):
    """See the head of this file."""

    def terms_of(self, model: EntityModel, step: Step) -> dict[str, Tensor]:
        user, item = rows(step.users, step.user), rows(step.items, step.item)
        found = {"alignment": (user - item).square().sum(1).mean()}
        if self.config.uniformity and len(user) > 1:
            found["uniformity"] = self.config.uniformity * (uniformity(user) + uniformity(item)) / 2
        return found
