"""The search of iHAS: which numbers of which fields does a row need? [arXiv 2309.07967, CIKM 2023]

Made after the abstract; the equations are ours. What is different about this model: a DeepFM in which a small network opens and closes each number of
each field's vector, row by row. On its own it is a model of clicks; ``ihas`` groups rows by its gates and trains a model for each group.

    z = gates(x);   logit = b + sum_f w_f(x_f) + sum_{f < g} (z_f x_f) . (z_g x_g) + MLP [z_1 x_1, ..., z_E x_E]
    loss = binary cross-entropy + sparse mean pi + polar mean pi (1 - pi)

Glossary: Bernoulli gates, stochastic and deterministic selection -> ``nn.fields.gates``; sparse and bi-polar regularisers -> ``sparse``, ``polar``.

Deviations: all that the abstract does not say: the network behind the gates, the relaxed draw, the form of both penalties.

Shapes: B rows, E fields, D embedding_size.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor

from recbench.data.clicks.rows import ClickBatch
from recbench.models.base import ModelContext
from recbench.models.checks import check_number, check_sizes
from recbench.models.clicks.click_model import ClickConfig, ClickModel
from recbench.models.registry import register
from recbench.nn.fields.embedding import pairwise_products
from recbench.nn.fields.gates import BernoulliGates, indecision, share_open
from recbench.nn.fields.mlp import MLP


@dataclass
class IHASSearchConfig(ClickConfig):
    """gate_size: hidden units of the network that opens gates. sparse, polar: weights of the two penalties. temperature: of the relaxed draw."""

    name: str = "ihas_search"
    embedding_size: int = 16
    layers: list[int] = field(default_factory=lambda: [128, 64])
    dropout: float = 0.2
    gate_size: int = 32
    sparse: float = 0.02
    polar: float = 0.02
    temperature: float = 0.5


@register("ihas_search", IHASSearchConfig)
class IHASSearch(ClickModel):
    """See the head of this file."""

    def __init__(self, config: IHASSearchConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "gate_size")
        check_number("model.temperature", config.temperature, above=0.0)
        for key in ("sparse", "polar"):
            check_number(f"model.{key}", getattr(config, key), least=0.0)
        self.weights, self.vectors = self.embedding(1), self.embedding(config.embedding_size)
        n_fields, d = self.vectors.n_fields, config.embedding_size
        self.gates = BernoulliGates(n_fields, d, config.gate_size, config.temperature)
        self.network = MLP(n_fields * d, config.layers, config.dropout)

    def _answer(self, rows: ClickBatch) -> tuple[Tensor, Tensor]:
        """(logits [B], log-odds of the gates [B, E, D])."""
        fields = rows.categories, rows.numbers, rows.several
        x = self.vectors(*fields)
        odds = self.gates.log_odds(x)
        x = x * self.gates(odds)
        deep = self.network(x.flatten(1)).squeeze(-1)
        return self.bias + self.weights(*fields).sum((1, 2)) + pairwise_products(x) + deep, odds

    def click_logits(self, rows: ClickBatch) -> Tensor:
        return self._answer(rows)[0]

    def click_loss(self, rows: ClickBatch) -> Tensor:
        logits, odds = self._answer(rows)
        gates = self.config.sparse * share_open(odds) + self.config.polar * indecision(odds)
        return F.binary_cross_entropy_with_logits(logits, rows.label[:, 0]) + gates + self.penalties()

    def open_gates(self, rows: ClickBatch) -> Tensor:
        """[B, E, D] bool: the deterministic selection."""
        return self.gates.log_odds(self.vectors(rows.categories, rows.numbers, rows.several)) > 0
