"""RLMRec-Con: the vector of a user or item is to recognise the projected profile of its text [Ren et al., WWW 2024].

    L = L_model + weight * ( InfoNCE of users + InfoNCE of items ),   between e and f(s), each against all profiles of its side

f is two linear layers; s are the profiles of ``profiles.py``, fixed. Beside any model of users and items.

Glossary: kd_weight -> ``weight``; kd_temperature -> ``temperature``; f -> ``network``. Deviations: profiles of users are means over training items;
items are compared over all items (``rivals=all``) or over the batch, where the authors compare the batch's positives and once more its
negatives, and count a node once in a batch. f has no penalty of its own.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from recbench.data.batches import WindowDataset
from recbench.models.collaborative.entities import EntityModel, Step
from recbench.objectives.auxiliary.base import UserItemAuxiliary
from recbench.objectives.auxiliary.node_contrast import recognised
from recbench.objectives.auxiliary.profiles import network, profiles
from recbench.objectives.contrastive.base import register


@register("rlmrec_con")
class RLMRecCon(UserItemAuxiliary):
    """See the head of this file."""

    users: Tensor  # [U, F]
    items: Tensor  # [V, F]

    def __init__(self, config: Any, model: EntityModel, dataset: WindowDataset) -> None:
        super().__init__(config, model, dataset)
        for name, part in zip(("users", "items"), profiles(model, config.shuffle), strict=True):
            self.register_buffer(name, part, persistent=False)
        self.network = network(self.items.shape[1], model.config.hidden_size)

    def terms_of(self, model: EntityModel, step: Step) -> dict[str, Tensor]:
        user, item = step.user.unique(), step.item.unique()
        found = self.side(step.users, self.users, user, self.users)
        return {"rlmrec_con": found + self.side(step.items, self.items, item, self.items[1:], 1)}

    def side(self, vectors: Tensor, texts: Tensor, node: Tensor, everyone: Tensor, first: int = 0) -> Tensor:
        """everyone: profiles of the side, of which the nodes begin with number ``first``."""
        own = F.normalize(F.embedding(node, vectors), dim=1)
        if self.config.rivals == "batch":
            everyone, place = F.embedding(node, texts), node.new_ones(len(node)).cumsum(0) - 1
        else:
            place = node - first
        return recognised(own, F.normalize(self.network(everyone), dim=1), place, self.config.temperature)
