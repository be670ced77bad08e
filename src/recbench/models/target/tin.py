"""TIN, Temporal Interest Network: content and place of event and candidate act on each other four ways [arXiv 2308.08487, WWW 2024].

What is different about this model: an event's vector holds how long ago it was, in attention *and* in what is pooled, and what is pooled is the
product of event and candidate. So an event can say much about one candidate, and more if it is recent.

    k_t = e_t + p(t);  q = v + p(0);  a = softmax_t(q . k_t / sqrt D);  u = sum_t a_t (k_t * q);  score = MLP [q, u] + b_v

Glossary (paper -> here): target-aware temporal encoding p -> ``place_embedding``, by distance from the candidate, 1 for the most recent event and
0 for the candidate; target-aware attention a -> ``weight``; target-aware representation u -> ``pooled``.

``position``: ``order`` counts events, as the paper; ``log_gap`` counts the logarithm of the seconds before the newest event; ``none`` knows no place.
``product: false`` pools the events alone, without the candidate: attention as usual, for control.

Deviations:
- The sum is linear, so it is made first and multiplied by the candidate afterwards. In the authors' code a batch norm and a linear layer stand
  between the two; here nothing does.
- ReLU in place of sigmoids, and no batch norm in the network.
- An item's vector is that of its id alone; the authors add its category.
- Trained on windows it learns by a softmax over drawn negatives; ``loss: bce`` with ``n_negatives: 1`` is the paper's.

Shapes: B rows, C candidates, L events, D = hidden_size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices
from recbench.models.registry import register
from recbench.models.target.pairs import PairModel, PairsConfig
from recbench.nn.fields.mlp import joined
from recbench.nn.target.history import distances, softmax_over_events

POSITIONS = ("order", "log_gap", "none")
#: Of the logarithm of a gap in seconds, to base 2; the last holds whatever is longer (68 years and more).
GAP_BUCKETS = 32


@dataclass
class TINConfig(PairsConfig):
    """position: what an event's place is; product: whether what is pooled is multiplied by the candidate."""

    name: str = "tin"
    position: str = "order"
    product: bool = True


@register("tin", TINConfig)
class TIN(PairModel):
    """See the head of this file."""

    @classmethod
    def needs(cls, config: Any) -> frozenset[str]:
        return frozenset({"timestamps"}) if config.position == "log_gap" else frozenset()

    def __init__(self, config: TINConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_choices(config, {"position": POSITIONS})
        self.item_embedding = self.table(config.hidden_size)
        self.head = self.make_head(2 * config.hidden_size)
        self.place_embedding = None
        if config.position != "none":
            places = GAP_BUCKETS + 1 if config.position == "log_gap" else context.max_length + 1
            self.place_embedding = nn.Embedding(places, config.hidden_size)
            nn.init.normal_(self.place_embedding.weight, std=0.02)

    def features(self, batch: Batch, items: Tensor) -> Tensor:
        query, keys = self.item_embedding(items), self.item_embedding(batch.items)
        if self.place_embedding is not None:
            query = query + self.place_embedding.weight[0]
            keys = keys + self.place_embedding(self.places(batch))
        scores = query @ keys.transpose(1, 2) / math.sqrt(self.config.hidden_size)
        pooled = torch.bmm(softmax_over_events(scores, batch.mask), keys)
        return joined(query, pooled * query if self.config.product else pooled)

    def places(self, batch: Batch) -> Tensor:
        """[B, L] int64, 1 or more at real events."""
        if self.config.position == "order":
            return distances(batch.lengths, batch.items.shape[1]).clamp_max(self.max_length)
        newest = batch.timestamps.amax(dim=1, keepdim=True) if batch.timestamps.shape[1] else batch.timestamps
        gap = (newest - batch.timestamps).clamp_min(0) * batch.mask
        return 1 + (gap.double() + 1).log2().long().clamp_max(GAP_BUCKETS - 1)

    def values_per_pair(self, length: int) -> int:
        return 2 * length + 3 * self.config.hidden_size + sum(self.config.layers)
