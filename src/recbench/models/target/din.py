"""DIN, Deep Interest Network: a network weighs each event of the history for the candidate at hand [arXiv 1706.06978, KDD 2018].

What is different about this model: there is no one vector of the user. For every candidate a small network looks at each event and says how much it
counts, and the weights need not sum to 1: a long history of related events has a larger vector than a short one.

    a_t = unit(v, e_t);   u = sum_t a_t e_t;   score = MLP [v, u, v * u] + b_v

Glossary (paper -> here): a(e_j, v_A) -> ``unit`` (nn.target.activation_unit); v_U(A) -> ``pooled``; Dice -> ``nn.target.activation_unit.Dice``.

Deviations:
- The network also reads v * u, the product of candidate and pooled history, as the authors' code does and the paper does not.
- The score has a bias b_v of the candidate, as the authors' code.
- Dice stands in the activation unit only; the network behind it has ReLU. Its means are taken over real events, not over padding.
- ``attention: softmax`` lets the weights sum to 1. A history without events has the vector 0 either way.
- Trained on windows it learns by a softmax over drawn negatives; ``loss: bce`` is the paper's.
- No mini-batch aware regularisation.

Shapes: B rows, C candidates, L events, D = hidden_size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_sizes
from recbench.models.registry import register
from recbench.models.target.pairs import PairModel, PairsConfig
from recbench.nn.fields.mlp import joined
from recbench.nn.target.activation_unit import ActivationUnit
from recbench.nn.target.history import softmax_over_events

ATTENTIONS = ("sum", "softmax")


@dataclass
class DINConfig(PairsConfig):
    """unit_size: hidden units of the activation unit. attention: ``sum`` of weights that are free, or ``softmax``."""

    name: str = "din"
    unit_size: int = 32
    attention: str = "sum"


@register("din", DINConfig)
class DIN(PairModel):
    """See the head of this file."""

    def __init__(self, config: DINConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "unit_size")
        check_choices(config, {"attention": ATTENTIONS})
        self.item_embedding = self.table(config.hidden_size)
        self.unit = ActivationUnit(config.hidden_size, config.unit_size)
        self.head = self.make_head(3 * config.hidden_size)

    def features(self, batch: Batch, items: Tensor) -> Tensor:
        candidates, events = self.item_embedding(items), self.item_embedding(batch.items)
        weight = self.unit(candidates, events, batch.mask)
        weight = (
            softmax_over_events(weight, batch.mask)
            if self.config.attention == "softmax"
            else weight * batch.mask[:, None]
        )
        pooled = torch.bmm(weight, events)
        return joined(candidates, pooled, candidates * pooled)

    def features_of_all_lengths(self, histories: Batch, items: Tensor) -> Tensor:
        # Dice is normalised over all pairs of the batch, and the unit reads no pads.
        return self.features(histories, items)

    def values_per_pair(self, length: int) -> int:
        return 2 * length * max(self.config.hidden_size, self.config.unit_size)
