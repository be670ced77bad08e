"""What models share that put users, items and the other entities of a knowledge graph into one table of nodes.

Nodes: user u is node u, entity e is node U + e. Entities 1..I are the items (``recbench.data.knowledge``), so the tables of users, of items with
the pad, and of the other entities, one below the other, are the table of nodes.

Shapes: U users, V = n_items + 1, N nodes, E edges.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from recbench.data.knowledge import Knowledge
from recbench.data.training import TrainingData
from recbench.models.base import ModelContext
from recbench.models.collaborative.entities import EntityConfig, EntityModel


class KnowledgeNodes(EntityModel):
    """``nodes()`` [N, D], of a model that answers without the graph."""

    requires: ClassVar[frozenset[str]] = frozenset({"knowledge"})
    training_only: ClassVar[tuple[str, ...]] = ("entity_embedding.",)

    def __init__(self, config: EntityConfig, context: ModelContext, reads_knowledge: bool = True) -> None:
        super().__init__(config, context)
        self.knowledge: Knowledge | None = context.knowledge if reads_knowledge else None
        self.n_entities = self.knowledge.n_entities if self.knowledge else context.n_items + 1
        others = self.n_entities - context.n_items - 1
        self.entity_embedding = nn.Embedding(others, config.hidden_size) if others else None
        if self.entity_embedding is not None:
            nn.init.normal_(self.entity_embedding.weight, std=config.deviation)

    def nodes(self) -> Tensor:
        """[N, D]."""
        tables = [self.user_embedding.weight, self.item_embedding.weight]
        if self.entity_embedding is not None:
            tables.append(self.entity_embedding.weight)
        return torch.cat(tables)

    def users_and_items(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of users [U, D] and of items [V, D]."""
        return nodes[: self.n_users], nodes[self.n_users : self.n_users + self.n_items + 1]

    @classmethod
    def served_names(cls) -> tuple[str, ...]:
        return "users", "items"


def interaction_edges(train: TrainingData) -> tuple[Tensor, Tensor, Tensor]:
    """(head, relation, tail) [E] of the pairs of training: relation 0 from users to items, and 1 back."""
    user, item, _ = train.flat()
    pairs = torch.unique(torch.from_numpy(user.astype("int64") * (train.n_items + 1) + item))
    users, items = pairs // (train.n_items + 1), train.n_users + pairs % (train.n_items + 1)
    relation = torch.zeros(len(pairs), dtype=torch.long)
    return torch.cat([users, items]), torch.cat([relation, relation + 1]), torch.cat([items, users])


def knowledge_edges(known: Knowledge, n_users: int, first: int) -> tuple[Tensor, Tensor, Tensor]:
    """(head, relation, tail) [E] of the triples, their relations numbered from ``first``, and of their inverses, numbered after them."""
    head, relation, tail = torch.from_numpy(known.triples.astype("int64")).T
    return both_ways(n_users + head, first + relation, n_users + tail, known.n_relations)


def both_ways(head: Tensor, relation: Tensor, tail: Tensor, n_relations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Edges [E] and their inverses [2 E], whose relations are numbered after the ``n_relations`` of the edges."""
    return torch.cat([head, tail]), torch.cat([relation, n_relations + relation]), torch.cat([tail, head])
