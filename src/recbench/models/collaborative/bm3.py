"""BM3: users and items learned without negatives, by agreeing with views of themselves and of images and texts [Zhou et al., WWW 2023].

What is different: no item is ever called a negative. A view is a vector with some numbers dropped and no gradient; a small map P of the one side must
hit the view of the other. Features meet the items in the same way, and are not needed afterwards. **They never move an item's vector**: in
P F_m -> H_i' the view has no gradient, so what images and texts say reaches the ranking through W_m and the shared P alone.

    c(a, b) = 1 - cos(a, b),   H_u, H_i: mean of the layers of LightGCN,  H_i with E_i once more,   F_m = W_m f_m,   x': x dropped, no gradient
    loss = c(P H_u, H_i') + c(P H_i, H_u') + lambda * sum over m of [c(P F_m, H_i') + c(P F_m, F_m')] + reg * (|H_u| + |H_i|) / I
    score = P H_u . P H_i

Glossary: P -> ``predictor``; lambda -> ``modality_weight``; dropout of the views -> ``view_dropout``; reg -> ``penalty``, of the unsquared norms of
the whole tables, as the authors' code has it; W_m -> ``projections``; f_m -> ``data.features``.

Where this deviates: the vectors f_m are frozen, where the authors' code trains them (``train_features=true`` is theirs), which is most of its
cost on images of 4,096 numbers. ``n_negatives`` and ``bpr_weight`` of other models mean nothing here and are refused. Controls:
``modality_weight=0``, the same without features; ``data.features.shuffle=SEED``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_number, check_share
from recbench.models.collaborative.entities import Step
from recbench.models.collaborative.lightgcn import GraphConfig
from recbench.models.collaborative.served import FeatureModel, detached
from recbench.models.registry import register


@dataclass
class BM3Config(GraphConfig):
    """See the head of this file."""

    name: str = "bm3"
    n_layers: int = 1
    penalty: float = 0.1
    view_dropout: float = 0.3
    modality_weight: float = 2.0
    train_features: bool = False


@register("bm3", BM3Config)
class BM3(FeatureModel):
    """See the head of this file."""

    training_only = ("projections.", "features_", "predictor.")

    def __init__(self, config: BM3Config, context: ModelContext) -> None:
        super().__init__(
            config, context, config.train_features and config.modality_weight > 0, config.modality_weight > 0
        )
        check_share("view_dropout", config.view_dropout, below=True)
        check_number("model.modality_weight", config.modality_weight, least=0.0)
        if config.n_negatives != 1 or config.bpr_weight != 1.0:
            raise UserError("bm3 knows no negatives: leave model.n_negatives and model.bpr_weight out")
        self.predictor = nn.Linear(config.hidden_size, config.hidden_size)
        nn.init.xavier_normal_(self.predictor.weight)

    def compared(self) -> tuple[Tensor, Tensor]:
        """H_u [U, D], H_i [V, D]."""
        users, items = self.propagated(self.graph())
        return users, items + self.item_embedding.weight

    def vectors(self) -> tuple[Tensor, Tensor]:
        users, items = self.compared()
        return self.predictor(users), self.predictor(items)

    def make_served(self) -> dict[str, Tensor]:
        users, items = self.vectors()
        fold = self.fold_table(self.layers(self.graph())) @ self.predictor.weight.T
        return {"users": users, "items": items, "fold": fold, "shift": self.predictor.bias}

    def fold_in(self, batch: Batch) -> Tensor:
        """[B, D]: P of the vector that a node joined with the history would have, less its own; P's constant is in every row of users."""
        return super().fold_in(batch) + self.served()["shift"]

    @classmethod
    def served_names(cls) -> tuple[str, ...]:
        return *super().served_names(), "shift"

    def training_loss(self, batch: Batch) -> Tensor:
        user, item = batch.user, batch.items[:, 0]
        all_users, all_items = self.compared()
        self.step = Step(user, item, all_users, all_items)
        users, items = F.embedding(user, all_users), F.embedding(item, all_items)
        rate = self.config.view_dropout if self.training else 0.0
        user_view, item_view = detached(users, rate), detached(items, rate)
        loss = apart(self.predictor(users), item_view) + apart(self.predictor(items), user_view)
        for kind in self.projections:
            vectors = self.projected(kind, item)
            told = self.predictor(vectors)
            loss = loss + self.config.modality_weight * (apart(told, item_view) + apart(told, detached(vectors, rate)))
        return loss + self.config.penalty * (all_users.norm() + all_items.norm()) / self.n_items


def apart(a: Tensor, b: Tensor) -> Tensor:
    """Mean over rows of 1 - cos."""
    return 1 - F.cosine_similarity(a, b, dim=-1).mean()
