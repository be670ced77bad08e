"""APEM: one set of field vectors, of which each task selects its own patterns.

Made after the abstract; the equations are ours. What is different about this model: the tasks (click, conversion) share how fields act on each other,
and do not share which of these patterns they read.

    H = attend(I, X);  Y = X + attend(X, H)              group transformer: I are learned points, so the cost is linear in the fields
    Z = Y * sigma(W_2 relu(W_1 mean_d Y))                a gate for each field, by squeeze and excitation
    Z_t = Z * sigma(W s_t)                               the indicator s_t of task t opens fields x heads
    logit_t = MLP_t [Z_t] + b_t

Glossary: X -> the vectors of the fields [E, D]; I -> ``points``; s_t -> ``indicators``; the loss is the mean over the labels of each one's binary
cross-entropy.

Deviations: all of it may deviate; there is no code, and the abstract names the parts alone. On data with one label it is a single-task model.

Shapes: B rows, E fields, D embedding_size, M points, H heads, T labels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.clicks.rows import ClickBatch, ClickTraining
from recbench.models.base import ModelContext
from recbench.models.checks import check_sizes
from recbench.models.clicks.click_model import ClickConfig, ClickModel
from recbench.models.registry import register
from recbench.nn.fields.mlp import MLP


@dataclass
class APEMConfig(ClickConfig):
    """n_points: learned points of the transformer; n_heads: of attention, and of what a task selects; n_tasks: labels, 0: all that the data have."""

    name: str = "apem"
    embedding_size: int = 16
    n_points: int = 4
    n_heads: int = 2
    n_tasks: int = 0
    layers: list[int] = field(default_factory=lambda: [128, 64])
    dropout: float = 0.2


@register("apem", APEMConfig)
class APEM(ClickModel):
    """See the head of this file."""

    def __init__(self, config: APEMConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "n_points", "n_heads")
        d = config.embedding_size
        if d % config.n_heads:
            raise UserError(f"model.embedding_size={d} is not a multiple of model.n_heads={config.n_heads}")
        self.vectors = self.embedding(d)
        e = self.vectors.n_fields
        self.points = nn.Parameter(torch.randn(config.n_points, d) * d**-0.5)
        self.gather, self.spread = (nn.MultiheadAttention(d, config.n_heads, batch_first=True) for _ in range(2))
        self.squeeze, self.excite = nn.Linear(e, max(1, e // 2)), nn.Linear(max(1, e // 2), e)
        self.n_tasks = config.n_tasks or n_labels(context)
        self.indicators = nn.Parameter(torch.randn(self.n_tasks, d) * d**-0.5)
        self.select = nn.Linear(d, e * config.n_heads)
        self.towers = nn.ModuleList(MLP(e * d, config.layers, config.dropout) for _ in range(self.n_tasks))

    def click_logits(self, rows: ClickBatch) -> Tensor:
        """[B, T]."""
        x = self.vectors(rows.categories, rows.numbers, rows.several)
        points = self.points.expand(len(x), -1, -1)
        found = self.gather(points, x, x, need_weights=False)[0]
        y = x + self.spread(x, found, found, need_weights=False)[0]
        z = y * torch.sigmoid(self.excite(torch.relu(self.squeeze(y.mean(2)))))[..., None]
        opened = torch.sigmoid(self.select(self.indicators)).view(self.n_tasks, z.shape[1], self.config.n_heads, 1)
        heads = z.view(*z.shape[:2], self.config.n_heads, -1)
        parts = [tower((heads * gate).flatten(1)) for tower, gate in zip(self.towers, opened, strict=True)]
        return torch.cat(parts, 1) + self.bias

    def click_loss(self, rows: ClickBatch) -> Tensor:
        labels = rows.label[:, : self.n_tasks]
        return F.binary_cross_entropy_with_logits(self.click_logits(rows), labels) + self.penalties()


def n_labels(context: ModelContext) -> int:
    """How many labels the rows of training have; of a stored run its own config says it."""
    return context.train.clicks.label.shape[1] if isinstance(context.train, ClickTraining) else 1
