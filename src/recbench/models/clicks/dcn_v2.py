"""DCN-V2: layers that multiply the input with itself, beside a network [arXiv 2008.13535, WWW 2021].

What is different about this model: each cross layer raises the degree of what is multiplied by one, over all entries of all fields, where a
factorisation machine stops at pairs.

    x_{l+1} = x_0 * (W_l x_l + b_l) + x_l;   logit = w . [x_L, MLP(x_0)] + b

Glossary (paper -> here): x_0 -> ``vectors`` side by side; W_l, b_l -> ``cross``; the parallel structure of its figure 1 -> ``network`` and ``last``.

Deviations:
- The full matrix W_l; the paper's low-rank mixture is not here.
- Layers, batch norm, dropout and the penalty of the tables are those of FuxiCTR, with which its figures are published.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.clicks.rows import ClickBatch
from recbench.models.base import ModelContext
from recbench.models.clicks.click_model import ClickModel, DeepClickConfig
from recbench.models.registry import register
from recbench.nn.fields.embedding import CrossLayers
from recbench.nn.fields.mlp import MLP


@dataclass
class DCNv2Config(DeepClickConfig):
    """cross_layers: how often the input is multiplied in."""

    name: str = "dcn_v2"
    cross_layers: int = 3


@register("dcn_v2", DCNv2Config)
class DCNv2(ClickModel):
    """See the head of this file."""

    def __init__(self, config: DCNv2Config, context: ModelContext) -> None:
        super().__init__(config, context)
        if config.cross_layers < 1:
            raise UserError(f"model.cross_layers must be at least 1, not {config.cross_layers}")
        self.vectors = self.embedding(config.embedding_size)
        width = self.vectors.n_fields * config.embedding_size
        self.cross = CrossLayers(width, config.cross_layers)
        self.network = MLP(width, config.layers, config.dropout, batch_norm=config.batch_norm, out=None)
        self.last = nn.Linear(width + self.network.width, 1, bias=False)
        nn.init.xavier_uniform_(self.last.weight)

    def click_logits(self, rows: ClickBatch) -> Tensor:
        x = self.vectors(rows.categories, rows.numbers, rows.several).flatten(1)
        return self.bias + self.last(torch.cat([self.cross(x), self.network(x)], 1)).squeeze(-1)
