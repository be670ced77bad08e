"""QIN, Quadratic Interest Network: attention without a softmax, and layers that multiply their input with themselves [MicroLens challenge 2025].

What is different about this model: weights pass a ReLU and no softmax, so that an event may count for nothing and many events add up; and behind
it there is no plain network but quadratic layers, each of which doubles the degree of what is multiplied.

    v = [id ; f_1 ; f_2 ...];   q = W_q v;  k_t = W_k v_t;  w_t = relu(q . k_t / sqrt(2 D));  o = W_o sum_t w_t W_v v_t + v
    logit = quadratic [v, o] + b_v

Every part has its control: ``pooling: softmax`` for the attention, ``head: mlp`` or ``cross`` (DCN-V2's layers) for the quadratic layers,
``features: []`` for the frozen vectors of images and texts (``data.features``), ``ids: false`` for the learned vectors of items.

Glossary (code of the authors -> here): ASTA -> ``pooling``; QNN -> ``head: quadratic`` (nn.fields.quadratic); num_row -> ``rows``; item_emb_d128,
their frozen multimodal vector -> ``features``.

Deviations:
- Without ``features`` (the default) an item's vector is that of its id. The authors add tags, which are fields of a row here (``data.several``).
- Frozen vectors have length 1 (0 where an item has none). Wider ones than ``feature_size`` are reduced to their principal components.
- One row in place of four: the rows of a layer are one linear map. ``rows: 4`` is theirs.
- Without a normalisation the pooled vector grows with the history, as theirs does.

Shapes: B rows, C candidates, L events, D width of an item's vector, E features of a pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_sizes
from recbench.models.registry import register
from recbench.models.target.pairs import PairModel, PairsConfig
from recbench.nn.fields.embedding import CrossLayers
from recbench.nn.fields.mlp import joined
from recbench.nn.fields.quadratic import QuadraticNetwork
from recbench.nn.target.frozen_vectors import frozen_table
from recbench.nn.target.history import softmax_over_events

POOLINGS = ("relu", "softmax")
HEADS = ("quadratic", "mlp", "cross")


@dataclass
class QINConfig(PairsConfig):
    """pooling: of the weights; head: what makes the score; n_layers, rows: of quadratic and cross layers. features: kinds of ``data.features`` that
    stand beside the id in an item's vector, each ``feature_size`` wide; ids: whether the id stands there at all."""

    name: str = "qin"
    pooling: str = "relu"
    head: str = "quadratic"
    n_layers: int = 2
    rows: int = 1
    features: list[str] = field(default_factory=list, metadata=LATER)
    feature_size: int = field(default=128, metadata=LATER)
    ids: bool = field(default=True, metadata=LATER)


@register("qin", QINConfig)
class QIN(PairModel):
    """See the head of this file."""

    frozen: Tensor

    @classmethod
    def needs(cls, config: Any) -> frozenset[str]:
        return frozenset({"features"}) if config.features else frozenset()

    def __init__(self, config: QINConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "n_layers", "rows", "feature_size")
        check_choices(config, {"pooling": POOLINGS, "head": HEADS})
        if not (config.ids or config.features):
            raise UserError(
                "model.ids=false leaves an item without a vector; name kinds of data.features in model.features"
            )
        d = self.width = config.ids * config.hidden_size + len(config.features) * config.feature_size
        if config.ids:
            self.item_embedding = self.table(config.hidden_size)
        if config.features:
            # A finished run is read without its files: the table is part of the model.
            self.register_buffer(
                "frozen", frozen_table(context.features, config.features, config.feature_size, context.n_items)
            )
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

    def vectors(self, items: Tensor) -> Tensor:
        """Items of any shape -> [..., D]."""
        parts = [self.item_embedding(items)] if self.config.ids else []
        if self.config.features:
            parts.append(nn.functional.embedding(items, self.frozen))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def features(self, batch: Batch, items: Tensor) -> Tensor:
        candidates, events = self.vectors(items), self.vectors(batch.items)
        keys, values = self.key_value(events).chunk(2, dim=-1)
        scores = self.query(candidates) @ keys.transpose(1, 2) / math.sqrt(2 * self.width)
        is_soft = self.config.pooling == "softmax"
        weight = softmax_over_events(scores, batch.mask) if is_soft else torch.relu(scores) * batch.mask[:, None]
        return joined(candidates, self.output(torch.bmm(weight, values)) + candidates)

    def values_per_pair(self, length: int) -> int:
        return 2 * length + 6 * self.width + sum(self.config.layers)
