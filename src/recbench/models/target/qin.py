"""QIN, Quadratic Interest Network: attention without a softmax, and layers that multiply their input with themselves [MicroLens challenge 2025].

What is different about this model: weights pass a ReLU and no softmax, so that an event may count for nothing and many events add up; and behind
it there is no plain network but quadratic layers, each of which doubles the degree of what is multiplied.

    q = W_q v;  k_t = W_k e_t;  w_t = relu(q . k_t / sqrt(2 D));  o = W_o sum_t w_t W_v e_t + v;   logit = quadratic [v, o] + b_v

Every part has its control: ``pooling: softmax`` for the attention, ``head: mlp`` or ``cross`` (DCN-V2's layers) for the quadratic layers.

Glossary (code of the authors -> here): ASTA -> ``pooling``; QNN -> ``head: quadratic`` (nn.fields.quadratic); num_row -> ``rows``.

Deviations:
- An item's vector is that of its id. The authors add tags and a frozen multimodal vector; nothing here reads ``data.features``.
- One row in place of four: the rows of a layer are one linear map. ``rows: 4`` is theirs.
- Without a normalisation the pooled vector grows with the history, as theirs does.

Shapes: B rows, C candidates, L events, D = hidden_size, E features of a pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_sizes
from recbench.models.registry import register
from recbench.models.target.pairs import PairModel, PairsConfig
from recbench.nn.fields.embedding import CrossLayers
from recbench.nn.fields.mlp import joined
from recbench.nn.fields.quadratic import QuadraticNetwork
from recbench.nn.target.history import softmax_over_events

POOLINGS = ("relu", "softmax")
HEADS = ("quadratic", "mlp", "cross")


@dataclass
class QINConfig(PairsConfig):
    """pooling: of the weights; head: what makes the score; n_layers, rows: of quadratic and cross layers."""

    name: str = "qin"
    pooling: str = "relu"
    head: str = "quadratic"
    n_layers: int = 2
    rows: int = 1


@register("qin", QINConfig)
class QIN(PairModel):
    """See the head of this file."""

    def __init__(self, config: QINConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "n_layers", "rows")
        check_choices(config, {"pooling": POOLINGS, "head": HEADS})
        d = config.hidden_size
        self.item_embedding = self.table(d)
        self.query, self.key_value = nn.Linear(d, 2 * d), nn.Linear(d, 4 * d)
        self.output = nn.Linear(2 * d, d)
        self.head = self.make_head(2 * d)

    def make_head(self, width: int) -> nn.Module:
        config = self.config
        if config.head == "mlp":
            return super().make_head(width)
        width += self.further_width
        if config.head == "cross":
            return nn.Sequential(CrossLayers(width, config.n_layers), nn.Linear(width, 1))
        return QuadraticNetwork(width, config.n_layers, config.rows, config.dropout)

    def features(self, batch: Batch, items: Tensor) -> Tensor:
        candidates, events = self.item_embedding(items), self.item_embedding(batch.items)
        keys, values = self.key_value(events).chunk(2, dim=-1)
        scores = self.query(candidates) @ keys.transpose(1, 2) / math.sqrt(2 * self.config.hidden_size)
        is_soft = self.config.pooling == "softmax"
        weight = softmax_over_events(scores, batch.mask) if is_soft else torch.relu(scores) * batch.mask[:, None]
        return joined(candidates, self.output(torch.bmm(weight, values)) + candidates)

    def values_per_pair(self, length: int) -> int:
        return 2 * length + 6 * self.config.hidden_size + sum(self.config.layers)
