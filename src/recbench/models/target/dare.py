"""DARE: one table of vectors finds the events that matter, another one represents them [arXiv 2410.02604, ICLR 2025].

What is different about this model: in attention an item's vector must say what goes with what, in the sum it must say what the item is. The two
pull one table in different directions, so there are two, and that of attention may be much smaller: here half as wide.

    s_t = q . k_t / sqrt(d_a) + c(t)      q, k_t from the attention table, c(t) a number for each distance
    a = softmax over the ``top_k`` events of the largest s;   h = sum a_t r_t;   m = mean_t r_t;   score = MLP [v, h, v * h, m, v * m] + b_v

Glossary (paper -> here): attention embedding -> ``attention_embedding`` (width ``attention_size``); representation embedding -> ``item_embedding``;
GSU, the search -> ``best_events``; target-aware representation r_t * v -> v * h. The candidate's time vector meets every event's, which is a number
for each distance: ``place_bias``.

The choice of ``top_k`` events has no gradient, so the authors train attention by a second loss: the same network, with weights of its own, on the
softmax over all events (``search_weight``).

``tables``: ``decoupled`` as above; ``shared``: one table does both (TWIN); ``projected``: attention reads a linear map of the one table.
To compare at equal size set ``hidden_size`` of ``shared`` to the sum of the two widths.

Deviations:
- An item's vector is that of its id alone; the authors add its category.
- Distances count events, and the time vectors are one number a distance, which is all that their product is.
- The mean divides by the number of events; the authors' by one more.
- Trained on windows by a softmax over drawn negatives; ``loss: bce``, ``n_negatives: 2`` and ``sampling: popularity`` are the authors'.

Shapes: B rows, C candidates, L events, D = hidden_size, d_a = attention_size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.data.clicks.rows import ClickBatch
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_sizes
from recbench.models.registry import register
from recbench.models.target.pairs import PairModel, PairsConfig
from recbench.nn.fields.mlp import joined
from recbench.nn.target.history import best_events, distances

TABLES = ("decoupled", "shared", "projected")


@dataclass
class DAREConfig(PairsConfig):
    """attention_size: width of the attention table, 0: half of hidden_size. top_k: events that the search finds."""

    name: str = "dare"
    layers: list[int] = field(default_factory=lambda: [200, 80])
    tables: str = "decoupled"
    attention_size: int = 0
    top_k: int = 20
    search_weight: float = 1.0


@register("dare", DAREConfig)
class DARE(PairModel):
    """See the head of this file."""

    def __init__(self, config: DAREConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "top_k")
        check_choices(config, {"tables": TABLES})
        if config.attention_size < 0 or config.search_weight < 0:
            raise UserError("model.attention_size and model.search_weight must not be negative")
        d = config.hidden_size
        self.width = d if config.tables == "shared" else config.attention_size or max(1, d // 2)
        self.item_embedding = self.table(d)
        if config.tables == "decoupled":
            self.attention_embedding = self.table(self.width)
        elif config.tables == "projected":
            self.projection = nn.Linear(d, self.width, bias=False)
        self.place_bias = nn.Parameter(torch.zeros(context.max_length + 1))
        self.head = self.make_head(5 * d)
        self.search_head = self.make_head(5 * d) if config.search_weight else None

    def attention_vectors(self, items: Tensor) -> Tensor:
        """items of any shape -> [..., d_a]."""
        if self.config.tables == "decoupled":
            return self.attention_embedding(items)
        vectors = self.item_embedding(items)
        return self.projection(vectors) if self.config.tables == "projected" else vectors

    def event_scores(self, batch: Batch, items: Tensor) -> Tensor:
        """[B, C, L]: how much each event matters to each candidate, before any softmax."""
        query, keys = self.attention_vectors(items), self.attention_vectors(batch.items)
        place = distances(batch.lengths, batch.items.shape[1]).clamp_max(self.max_length)
        return query @ keys.transpose(1, 2) / math.sqrt(self.width) + self.place_bias[place][:, None]

    def features(self, batch: Batch, items: Tensor) -> Tensor:
        return self._features(batch, items, self.event_scores(batch, items), self.config.top_k)

    def _features(self, batch: Batch, items: Tensor, scores: Tensor, top_k: int) -> Tensor:
        """With the softmax over ``top_k`` events, or over all of them where there are no more."""
        candidates, events = self.item_embedding(items), self.item_embedding(batch.items)
        pooled = torch.bmm(best_events(scores, batch.mask, top_k), events)
        mean = (events.sum(1) / batch.lengths.clamp_min(1)[:, None])[:, None]
        return joined(candidates, pooled, candidates * pooled, mean, candidates * mean)

    def loss_of_targets(self, histories: Batch, targets: Tensor) -> Tensor:
        negatives = self.draw(len(targets))
        items, taken = torch.cat([targets[:, None], negatives], 1), negatives == targets[:, None]
        found, bias = self.event_scores(histories, items), self.bias[items]
        scores = self.head(self._features(histories, items, found, self.config.top_k)).squeeze(-1) + bias
        loss = self.loss_of_scores(scores, taken)
        if self.search_head is None:
            return loss
        soft = self._features(histories, items, found, found.shape[2])
        searched = self.search_head(soft).squeeze(-1) + bias
        return loss + self.config.search_weight * self.loss_of_scores(searched, taken)

    def click_loss(self, rows: ClickBatch) -> Tensor:
        if self.search_head is None:
            return super().click_loss(rows)
        items, further = rows.item[:, None], self.row_vectors(rows)
        found = self.event_scores(rows.history, items)

        def loss(head: nn.Module, top_k: int) -> Tensor:
            read = joined(self._features(rows.history, items, found, top_k), further)
            logits = head(read)[:, 0, 0] + self.bias[rows.item]
            return F.binary_cross_entropy_with_logits(logits, rows.label[:, 0])

        hard = loss(self.head, self.config.top_k)
        return hard + self.config.search_weight * loss(self.search_head, found.shape[2])

    def values_per_pair(self, length: int) -> int:
        return 3 * length + 5 * self.config.hidden_size + sum(self.config.layers)
