"""KGAT: users, items and what is known of items in one graph, along whose edges attention decides how much is passed on [Wang et al., KDD 2019].

What is different: an item's neighbours are its users and the entities of its triples alike. How much an edge counts depends on its relation; those
weights are made anew at the start of each epoch and then held.

    n = sum over the edges (h, r, t) of pi(h, r, t) e_t     e' = LeakyReLU((e + n) W1 + b1) + LeakyReLU((e * n) W2 + b2)
    vector = e, and each layer's e' at length 1, side by side      loss = BPR + penalty + kg_weight * TransR

Glossary: pi -> ``RelationGraph.attended``; W_r -> ``maps``, r -> ``relations`` (``relation_size`` wide); widths of the layers -> ``layer_sizes``;
message dropout -> ``message_dropout``; lambda -> ``penalty``, of the final vectors of a batch's rows; TransR's loss -> ``translation_loss``.

Where this deviates: the authors train all pairs of an epoch first and then all triples, with an optimiser of their own for each; here a step has
a batch of both (``kg_weight`` 1). They draw a triple's head uniformly among all heads, which is done here too; its wrong tail is uniform over
all nodes. Their start from the vectors of a trained BPR-MF is left out. Before the first refresh weights are even. Their node dropout is
accepted and ignored, so it is no key here. A new user, folded in, gets the mean of the vectors of the items (ours). Their NDCG takes the hits that
were found for the ideal list, so it is above the true one, and their epoch is chosen on test. Controls: ``data.knowledge.rewire=SEED``;
``use_knowledge=false``, the same model on users and items alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_number, check_share
from recbench.models.collaborative.entities import EntityConfig, Step
from recbench.models.collaborative.knowledge_nodes import KnowledgeNodes, interaction_edges, knowledge_edges
from recbench.models.registry import register
from recbench.nn.graph.relation_attention import RelationGraph, translation_loss
from recbench.nn.graph.sparse_graph import SparseGraph


@dataclass
class KGATConfig(EntityConfig):
    """See the head of this file."""

    name: str = "kgat"
    penalty: float = 1e-5
    layer_sizes: list[int] = field(default_factory=lambda: [64, 32, 16])
    relation_size: int = 64
    message_dropout: float = 0.1
    kg_weight: float = 1.0
    use_knowledge: bool = True


@register("kgat", KGATConfig)
class KGAT(KnowledgeNodes):
    """See the head of this file. Nodes: users, then entities, of which the first are the pad and the items."""

    training_only: ClassVar[tuple[str, ...]] = ("entity_embedding.", "relations", "maps", "sums.", "products.")

    def __init__(self, config: KGATConfig, context: ModelContext) -> None:
        super().__init__(config, context, config.use_knowledge)
        check_share("message_dropout", config.message_dropout, below=True)
        check_number("model.kg_weight", config.kg_weight, least=0.0)
        if config.relation_size < 1 or any(size < 1 for size in config.layer_sizes):
            raise UserError(
                f"model.relation_size={config.relation_size} and model.layer_sizes={config.layer_sizes} must be at least 1"
            )
        n_relations = 2 + 2 * (self.knowledge.n_relations if self.knowledge else 0)
        self.relations = nn.Parameter(torch.empty(n_relations, config.relation_size))
        self.maps = nn.Parameter(torch.empty(n_relations, config.hidden_size, config.relation_size))
        for part in (self.relations, self.maps):
            nn.init.xavier_uniform_(part)
        sizes = [config.hidden_size, *config.layer_sizes]
        self.sums, self.products = (
            nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes)) for _ in range(2)
        )
        self._edges: RelationGraph | None = None
        self._attended: SparseGraph | None = None
        self._heads: Tensor | None = None
        if not config.kg_weight:  # attention reads them, but nothing moves them then
            self.relations.requires_grad_(False)
            self.maps.requires_grad_(False)

    @classmethod
    def needs(cls, config: Any) -> frozenset[str]:
        return cls.requires if config.use_knowledge else frozenset()

    def edges(self) -> RelationGraph:
        """All edges: relation 0, the items of a user; 1, the users of an item; then the triples' relations, then their inverses."""
        if self._edges is None:
            parts = [interaction_edges(self.training_data())]
            if self.knowledge is not None:
                parts.append(knowledge_edges(self.knowledge, self.n_users, first=2))
            head, relation, tail = (torch.cat(ends) for ends in zip(*parts, strict=True))
            self._edges = RelationGraph(head, relation, tail, self.n_users + self.n_entities)
        return self._edges.to(self.user_embedding.weight.device)

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        self._attended = self.edges().attended(self.nodes().detach(), self.relations, self.maps)

    def vectors(self) -> tuple[Tensor, Tensor]:
        graph = self._attended if self._attended is not None else self.edges().even
        graph = graph.to(self.user_embedding.weight.device)
        layer = self.nodes()
        found = [layer]
        for summed, multiplied in zip(self.sums, self.products, strict=True):
            around = graph.product(layer)
            layer = F.leaky_relu(summed(layer + around)) + F.leaky_relu(multiplied(layer * around))
            layer = F.dropout(layer, self.config.message_dropout, self.training)
            found.append(F.normalize(layer, dim=1))
        return self.users_and_items(torch.cat(found, dim=1))

    def training_loss(self, batch: Batch) -> Tensor:
        user, item = batch.user, batch.items[:, 0]
        items = torch.cat([item[:, None], self.draw_negatives(user)], dim=1)
        users_all, items_all = self.vectors()
        self.step = Step(user, item, users_all, items_all)
        own, others = F.embedding(user, users_all), F.embedding(items, items_all)
        loss = self.bpr(own, others) + self.penalty_of(own, others)
        return loss + self.config.kg_weight * self.loss_of_triples(len(user)) if self.config.kg_weight else loss

    def loss_of_triples(self, n: int) -> Tensor:
        """Of n edges, interactions and inverses among them: a head, uniformly, and one of its edges; the wrong tail is any node."""
        edges = self.edges()
        if self._heads is None:
            self._heads = edges.head.unique()
        starts, heads = edges.even.start, self._heads.to(edges.head.device)
        head = heads[torch.randint(len(heads), (n,), device=heads.device)]
        count = starts[head + 1] - starts[head]
        chosen = starts[head] + (torch.rand(n, device=heads.device) * count).long().minimum(count - 1)
        relation, nodes = edges.relation[chosen], self.nodes()
        wrong = torch.randint(edges.n_nodes, (n,), device=heads.device)
        ends = (F.embedding(node, nodes) for node in (head, edges.tail[chosen], wrong))
        first, tail, other = ends
        return translation_loss(first, relation, tail, other, self.relations, self.maps)
