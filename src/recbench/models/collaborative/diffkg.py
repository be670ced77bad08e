"""DiffKG: LightGCN over items that a knowledge graph describes, contrasted with themselves under a thinned graph [Jiang et al., WSDM 2024].

What is different: attention over the triples makes the items' vectors; a diffusion over the graph's rows chooses which triples are kept for a
second view, and both views of a user or an item must agree. **In the authors' release the denoised graph never reaches the training step**: their
loop hands it over in the place of another argument, so both views are of the original graph, and the diffusion changes nothing but the random
state. Their published figures are therefore not known to be of this model. What the diffusion is worth is told by the controls.

    pi(h, r, t) = softmax over h's edges of LeakyReLU((W [e_h; e_t]) . r)      e_h <- normalise(e_h + sum of pi e_t), with a residual
    users, items = sum of the layers of LightGCN over (users, entities that are items)
    loss = BPR + penalty + contrast_weight * InfoNCE(vectors of the graph, vectors of the thinned graph)

Glossary: rebuild_k -> ``keep``; T = 5 steps, noise .1 -> ``diffusion_steps``, ``noise_scale``; e, the share of the collaborative term ->
``agreement``; residual lambda -> ``residual``; tau -> ``temperature``. The network -> ``nn/graph/graph_denoiser.py``.

``graph`` says what the second view is: ``denoised``; ``random_subset``, as many edges of each head, drawn at random: the control of equal size;
``original``, the whole graph again, which is what the authors' release trains. ``data.knowledge.rewire=SEED`` is the control of all of it.

Where this deviates: the strongest edges are chosen among those that a head has; theirs are chosen among all entities and thrown away where they
are none, so the graph can only lose edges either way, and here every head keeps ``keep`` of its own, which makes the control equal in size. The
network is trained anew at the start of every ``denoise_every``-th epoch, on rows of heads, never on the dense matrix of all entities. Items enter
LightGCN without self loops. Contrast is within the batch. They choose the epoch on test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_number, check_share
from recbench.models.collaborative.entities import EntityConfig
from recbench.models.collaborative.knowledge_nodes import KnowledgeNodes, both_ways, knowledge_edges
from recbench.models.registry import register
from recbench.nn.graph.bipartite import Bipartite
from recbench.nn.graph.graph_denoiser import Diffusion, edge_scores, strongest_edges
from recbench.nn.graph.relation_attention import RelationGraph, softmax_by_head

GRAPHS = ("denoised", "random_subset", "original")


@dataclass
class DiffKGConfig(EntityConfig):
    """See the head of this file."""

    name: str = "diffkg"
    graph: str = "denoised"  # the second view: denoised | random_subset | original
    n_layers: int = 2  # of LightGCN
    knowledge_layers: int = 2
    residual: float = 0.5
    message_dropout: float = 0.1
    contrast_weight: float = 0.1
    temperature: float = 0.2
    keep: int = 1
    edge_dropout: float = 0.5
    diffusion_steps: int = 5
    noise_scale: float = 0.1
    agreement: float = 0.1
    denoiser_size: int = 200
    denoiser_passes: int = 5
    denoise_every: int = 5


@register("diffkg", DiffKGConfig)
class DiffKG(KnowledgeNodes):
    """See the head of this file."""

    kept: Tensor  # [E] bool, the triples of the second view; none before the first is chosen
    training_only: ClassVar[tuple[str, ...]] = ("entity_embedding.", "relations", "compare.", "kept")

    def __init__(self, config: DiffKGConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_choices(config, {"graph": GRAPHS})
        for name in ("residual", "noise_scale", "agreement"):
            check_share(name, getattr(config, name))
        for name in ("message_dropout", "edge_dropout"):
            check_share(name, getattr(config, name), below=True)
        for name in (
            "n_layers",
            "knowledge_layers",
            "keep",
            "diffusion_steps",
            "denoiser_size",
            "denoiser_passes",
            "denoise_every",
        ):
            check_number(f"model.{name}", getattr(config, name), least=1)
        check_number("model.contrast_weight", config.contrast_weight, least=0.0)
        check_number("model.temperature", config.temperature, above=0.0)
        d, n_relations = config.hidden_size, 2 * (self.knowledge.n_relations if self.knowledge else 0)
        self.relations = nn.Parameter(torch.empty(n_relations, d))
        if n_relations:
            nn.init.xavier_uniform_(self.relations)
        self.compare = nn.Linear(2 * d, d, bias=False)
        # Stored while a training goes on, so that one that was stopped goes on with the same view.
        n_triples = len(self.knowledge.triples) if self.knowledge else 0
        self.register_buffer("kept", torch.zeros(n_triples, dtype=torch.bool))
        self._users_items: Bipartite | None = None
        self._whole: RelationGraph | None = None
        self._thinned: RelationGraph | None = None

    # ---- graphs

    def whole(self) -> RelationGraph:
        """All triples and their inverses, entities numbered from 0."""
        if self._whole is None:
            if self.knowledge is None:
                raise RuntimeError("DiffKG was built without a knowledge graph, which its training needs")
            self._whole = RelationGraph(*knowledge_edges(self.knowledge, 0, first=0), self.n_entities)
        return self._whole.to(self.user_embedding.weight.device)

    def users_items(self) -> Bipartite:
        if self._users_items is None:
            self._users_items = Bipartite.of_training(self.training_data())
        self._users_items = self._users_items.to(self.user_embedding.weight.device)
        return self._users_items

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        if self.config.graph == "original" or not self.config.contrast_weight:
            return
        if epoch % self.config.denoise_every == 0 or not self.kept.any():
            self.kept, self._thinned = self.chosen(generator).to(self.kept.device), None

    def triples(self) -> tuple[Tensor, Tensor, Tensor]:
        """(head, relation, tail) [E], by head, as they were given."""
        assert self.knowledge is not None
        triples = torch.from_numpy(self.knowledge.triples.astype("int64"))
        head, relation, tail = triples[triples[:, 0].argsort(stable=True)].T
        return head, relation, tail

    def chosen(self, generator: torch.Generator) -> Tensor:
        """[E] bool: the triples of the second view."""
        head, _, tail = self.triples()
        is_random = self.config.graph == "random_subset"
        score = torch.rand(len(head), generator=generator) if is_random else self.denoised(head, tail, generator)
        kept = strongest_edges(head, score, self.config.keep)
        return kept & (torch.rand(len(head), generator=generator) >= self.config.edge_dropout)

    def second(self) -> RelationGraph:
        """The graph of the second view, with inverses."""
        if not self.kept.any():
            return self.whole()
        if self._thinned is None:
            assert self.knowledge is not None
            head, relation, tail = (part[self.kept.cpu()] for part in self.triples())
            self._thinned = RelationGraph(*both_ways(head, relation, tail, self.knowledge.n_relations), self.n_entities)
        return self._thinned.to(self.user_embedding.weight.device)

    def denoised(self, head: Tensor, tail: Tensor, generator: torch.Generator) -> Tensor:
        """[E] on the CPU."""
        entities = self.entities().detach()
        guess = torch.zeros_like(entities)
        graph = self.users_items()
        guess[1 : self.n_items + 1].index_add_(
            0, graph.items - 1, F.embedding(graph.users, self.user_embedding.weight.detach())
        )
        steps = Diffusion(self.config.diffusion_steps, self.config.noise_scale)
        sizes = self.config.denoiser_size, self.config.denoiser_passes
        agreement = self.config.agreement, guess, entities
        with torch.enable_grad():
            device = entities.device
            return edge_scores(
                head.to(device), tail.to(device), self.n_entities, steps, *sizes, agreement, generator
            ).cpu()

    # ---- vectors

    def entities(self) -> Tensor:
        """[n_entities, D]."""
        return self.nodes()[self.n_users :]

    def described(self, edges: RelationGraph) -> Tensor:
        """[n_entities, D] after attention over the edges, with a gradient."""
        layer = found = self.entities()
        for _ in range(self.config.knowledge_layers):
            ends = torch.cat([F.embedding(edges.head, layer), F.embedding(edges.tail, layer)], dim=1)
            score = F.leaky_relu((self.compare(ends) * self.relations[edges.relation]).sum(dim=1), 0.2)
            weight = softmax_by_head(score, edges.head, self.n_entities)
            layer = layer.index_add(0, edges.head, weight[:, None] * F.embedding(edges.tail, layer))
            layer = F.normalize(F.dropout(layer, self.config.message_dropout, self.training), dim=1)
            found = self.config.residual * found + layer
        return found

    def vectors_of(self, edges: RelationGraph) -> tuple[Tensor, Tensor]:
        graph = self.users_items()
        nodes = torch.cat([self.user_embedding.weight, self.described(edges)[: self.n_items + 1]])
        return graph.split(graph.propagate(nodes, self.config.n_layers, combine="sum"))

    def vectors(self) -> tuple[Tensor, Tensor]:
        return self.vectors_of(self.whole())

    def training_loss(self, batch: Batch) -> Tensor:
        loss = super().training_loss(batch)
        if not self.config.contrast_weight:
            return loss
        assert self.step is not None
        user, item, users, items = self.step
        seconds = self.vectors_of(self.second())
        for rows, one, other in ((user.unique(), users, seconds[0]), (item.unique(), items, seconds[1])):
            loss = loss + self.config.contrast_weight * self.contrast(F.embedding(rows, one), F.embedding(rows, other))
        return loss

    def contrast(self, one: Tensor, other: Tensor) -> Tensor:
        """InfoNCE between two views of the same rows [R, D]: each row's other view among those of all."""
        cosine = F.normalize(one, dim=1) @ F.normalize(other, dim=1).T / self.config.temperature
        return F.cross_entropy(cosine, torch.arange(len(cosine), device=cosine.device))
