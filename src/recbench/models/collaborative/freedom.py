"""FREEDOM: LightGCN on a pruned graph, beside a frozen graph of items that look, sound or read alike [Zhou and Shen, MM 2023].

What is different: what images and texts say is put into a graph of items once and never learned; the graph of users and items loses most of its edges
anew in each epoch, those of popular users and items first. So a training step costs a fraction of LightGCN's, and testing sees all edges.

    h = S^L E_i      item = LightGCN item + h      loss = BPR(u, item) + reg * sum over kinds m of BPR(u, W_m f_m)

Glossary: S, the k nearest items by the cosine of each kind, mixed -> ``item_graph`` (``neighbours``, ``image_share``); L -> ``item_layers``; p, the
share of edges that an epoch goes without -> ``pruned``; the probability of an edge to stay, ~ 1 / sqrt(deg u deg i), and weights from the
degrees that are left -> ``Bipartite.sampled``; reg -> ``modality_weight``; W_m -> ``projections``; f_m -> ``data.features``.

Where this deviates: the vectors of items are frozen, where the authors' code trains them (``train_features=true`` is theirs); W_m f_m then
costs every number of every image at every step. The neighbours belong to the vectors at hand; their code keeps them under k and the share
alone, so new vectors silently get the old graph. Edges are drawn by Gumbel keys, since ``torch.multinomial`` refuses more than 2^24. Their W_m have
a constant, which a difference of two scores does not see. There is no weight penalty there, so ``penalty`` is 0 here. Controls: ``pruned=0``;
``modality_weight=0``; ``item_layers=0``, LightGCN with pruning; ``data.features.shuffle=SEED``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_number, check_share
from recbench.models.collaborative.lightgcn import GraphConfig
from recbench.models.collaborative.served import FeatureModel
from recbench.models.registry import register
from recbench.nn.graph.bipartite import Bipartite
from recbench.nn.graph.item_neighbours import item_graph, shares_of
from recbench.nn.graph.sparse_graph import SparseGraph


@dataclass
class FreedomConfig(GraphConfig):
    """See the head of this file."""

    name: str = "freedom"
    n_layers: int = 2
    penalty: float = 0.0
    neighbours: int = 10
    item_layers: int = 1
    image_share: float = 0.1  # of the image in the graph of items, where there are other kinds too
    pruned: float = 0.8
    modality_weight: float = 1e-3
    train_features: bool = False


@register("freedom", FreedomConfig)
class Freedom(FeatureModel):
    """See the head of this file."""

    def __init__(self, config: FreedomConfig, context: ModelContext) -> None:
        super().__init__(config, context, config.train_features, project=config.modality_weight > 0, bias=False)
        check_share("pruned", config.pruned, below=True)
        check_share("image_share", config.image_share)
        check_number("model.neighbours", config.neighbours, least=1)
        check_number("model.item_layers", config.item_layers, least=0)
        check_number("model.modality_weight", config.modality_weight, least=0.0)
        self._pruned: Bipartite | None = None
        self._items: SparseGraph | None = None

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        graph = self.graph()
        n = max(1, round((1 - self.config.pruned) * graph.n_pairs))
        self._pruned = graph.sampled(n, generator) if n < graph.n_pairs else None

    def training_graph(self) -> SparseGraph:
        return self.graph() if self._pruned is None else self._pruned.to(self.user_embedding.weight.device)

    def item_graph(self) -> SparseGraph:
        """Of items alike, made once; the vectors that are learned along change nothing of it."""
        device = self.user_embedding.weight.device
        if self._items is None:
            shares = shares_of(self.kinds, self.config.image_share)
            self._items = item_graph(
                {kind: table.cpu() for kind, table in self.features().items()}, shares, self.config.neighbours
            )
        self._items = self._items.to(device)
        return self._items

    def alike(self) -> Tensor | float:
        """h [V, D]."""
        if not self.config.item_layers:
            return 0.0
        return self.item_graph().propagate(self.item_embedding.weight, self.config.item_layers, combine="last")

    def vectors(self) -> tuple[Tensor, Tensor]:
        users, items = super().vectors()
        return users, items + self.alike()

    def make_served(self) -> dict[str, Tensor]:
        served = super().make_served()
        return {**served, "items": served["items"] + self.alike()}

    def training_loss(self, batch: Batch) -> Tensor:
        loss = super().training_loss(batch)
        if not self.projections:
            return loss
        assert self.step is not None
        own, drawn = F.embedding(self.step.user, self.step.users), self.step.item[:, None]
        both = torch.cat([drawn, self.draw_negatives(self.step.user)], dim=1)
        for kind in self.kinds:
            loss = loss + self.config.modality_weight * self.bpr(own, self.projected(kind, both))
        return loss
