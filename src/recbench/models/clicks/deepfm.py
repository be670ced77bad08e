"""DeepFM: a factorisation machine and a network side by side over the same vectors [arXiv 1703.04247, IJCAI 2017].

What is different about this model: the pairs of fields are there without being learned by the network, which is left with what pairs cannot say.

    logit = b + sum_f w_f(x_f) + sum_{f < g} v_f . v_g + MLP [v_1, ..., v_E]

Glossary (paper -> here): y_FM -> ``weights`` and ``pairwise_products``; y_DNN -> ``network``.

Deviations: layers, batch norm, dropout and the penalty of the tables are those of FuxiCTR, with which its figures are published.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from recbench.data.clicks.rows import ClickBatch
from recbench.models.base import ModelContext
from recbench.models.clicks.click_model import ClickModel, DeepClickConfig
from recbench.models.registry import register
from recbench.nn.fields.embedding import pairwise_products
from recbench.nn.fields.mlp import MLP


@dataclass
class DeepFMConfig(DeepClickConfig):
    """embedding_size: of the vectors; layers: of the network."""

    name: str = "deepfm"


@register("deepfm", DeepFMConfig)
class DeepFM(ClickModel):
    """See the head of this file."""

    def __init__(self, config: DeepFMConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        self.weights, self.vectors = self.embedding(1), self.embedding(config.embedding_size)
        width = self.vectors.n_fields * config.embedding_size
        self.network = MLP(width, config.layers, config.dropout, batch_norm=config.batch_norm)

    def click_logits(self, rows: ClickBatch) -> Tensor:
        fields = rows.categories, rows.numbers, rows.several
        vectors = self.vectors(*fields)
        deep = self.network(vectors.flatten(1)).squeeze(-1)
        return self.bias + self.weights(*fields).sum((1, 2)) + pairwise_products(vectors) + deep
