"""What models share that learn with more than they need to answer: vectors of images or texts, a knowledge graph, maps between them.

They are trained with all of it and answer from tables of users and items that are made once at the end (``entities.py``: ``served``). So those
tables are stored, with the two tables that were learned, and nothing of what came with the items: a finished run is read without image files.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from recbench.models.base import ModelContext
from recbench.models.collaborative.lightgcn import GraphConfig, GraphModel


class FeatureModel(GraphModel):
    """A graph model that reads vectors of items by kind: ``table(kind)`` [V, D_m], and ``projected(kind, items)``, W_m f_m [..., D]."""

    requires: ClassVar[frozenset[str]] = frozenset({"features"})
    training_only: ClassVar[tuple[str, ...]] = ("projections.", "features_")

    def __init__(
        self,
        config: GraphConfig,
        context: ModelContext,
        train_features: bool = False,
        project: bool = True,
        bias: bool = True,
    ) -> None:
        """train_features: the vectors themselves are learned, as in the published code; project: whether the W_m are needed, and
        bias whether they have a constant."""
        super().__init__(config, context)
        self.kinds = list(context.features)
        for kind, table in context.features.items():
            if train_features:
                self.register_parameter(f"features_{kind}", nn.Parameter(table.clone()))
            else:
                self.register_buffer(f"features_{kind}", table, persistent=False)
        widths = {kind: table.shape[1] for kind, table in context.features.items()} if project else {}
        self.projections = nn.ModuleDict(
            {kind: nn.Linear(width, config.hidden_size, bias) for kind, width in widths.items()}
        )
        for layer in self.projections.values():
            nn.init.xavier_normal_(layer.get_parameter("weight"))

    def table(self, kind: str) -> Tensor:
        """[V, D_m]. Raises RuntimeError for a model that was read from a finished run."""
        found = getattr(self, f"features_{kind}", None)
        if found is None:
            raise RuntimeError(f"{type(self).__name__} was built without vectors of items, which its training needs")
        return found

    def projected(self, kind: str, items: Tensor) -> Tensor:
        """[..., D] of items [...]."""
        return self.projections[kind](nn.functional.embedding(items, self.table(kind)))

    def features(self) -> dict[str, Tensor]:
        """Kind -> [V, D_m]."""
        return {kind: self.table(kind).detach() for kind in self.kinds}


def detached(x: Tensor, rate: float) -> Tensor:
    """A view of vectors without a gradient, with a share of their numbers dropped."""
    with torch.no_grad():
        return nn.functional.dropout(x.detach(), rate)
