"""LightGCN: vectors of users and items, averaged along the graph of who has what [He et al., SIGIR 2020].

What is different: a vector is the mean of itself and of what one, two ... ``n_layers`` steps along the graph bring to it; nothing but the two tables
is learned. Each step propagates the whole graph, whatever the batch, so a large ``training.batch_size`` is what makes it affordable.

    E^(k+1) = A E^(k),   A_ui = 1 / sqrt(deg u deg i),   vectors = mean over k = 0 .. K of E^(k)

Glossary: K -> ``n_layers``; E^(0) -> ``user_embedding``, ``item_embedding``; alpha_k = 1/(K+1) -> ``combine=mean`` (``sum`` and ``last`` are other
papers' forms: SSLRec and RLMRec sum under the same name); lambda -> ``penalty``, of the rows of E^(0) in a batch.

Deviations: scores are the plain products; the authors' code ranks their sigmoid, which in float32 ties large ones. Its sampler draws users uniformly
(``training.rows=users_uniform``); the default walks through all events. A user without training events, folded in, is a node that is joined with the
items of the history and changes none of them: the vector of a known user less its own E^(0) term, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices
from recbench.models.collaborative.entities import EntityConfig, EntityModel, distinct_count
from recbench.models.registry import register
from recbench.nn.graph.bipartite import Bipartite
from recbench.nn.graph.sparse_graph import COMBINE, SparseGraph, combined


@dataclass
class GraphConfig(EntityConfig):
    """What every model has that propagates along the graph of users and items."""

    n_layers: int = 3
    combine: str = "mean"  # mean | sum | last | without_first, the mean of the layers 1 .. K


@dataclass
class LightGCNConfig(GraphConfig):
    """See the head of this file."""

    name: str = "lightgcn"


class GraphModel(EntityModel):
    """Vectors from layers along the graph of users and items; what ``lightgcn`` is, and others add to.

    The graph is made when it is first needed, by a training or by a model that was not loaded; stored are the two tables and the vectors after
    propagation, so that scoring needs no graph.
    """

    #: What is done to each layer after the first in training, if anything: (number from 1, [U + V, D]) -> [U + V, D]. Set by an auxiliary.
    perturbation: Callable[[int, Tensor], Tensor] | None = None
    #: What is done to E^(0) in training, if anything: [U + V, D] -> [U + V, D]. Set by an auxiliary.
    hide: Callable[[Tensor], Tensor] | None = None
    #: E^(0) .. E^(K) of the step that is being trained, for the auxiliaries.
    step_layers: list[Tensor] | None = None

    def __init__(self, config: GraphConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        if config.n_layers < 0:
            raise UserError(f"model.n_layers={config.n_layers} must not be negative")
        check_choices(config, {"combine": COMBINE})
        self._graph: Bipartite | None = None

    def graph(self) -> Bipartite:
        """Of users and items in training, on the model's device."""
        device = self.user_embedding.weight.device
        if self._graph is None or self._graph.start.device != device:
            self._graph = (self._graph or Bipartite.of_training(self.training_data())).to(device)
        return self._graph

    def training_graph(self) -> SparseGraph:
        """What the loss of a step propagates along; a model that prunes its graph gives another in training."""
        return self.graph()

    def nodes(self) -> Tensor:
        """[U + V, D]: E^(0)."""
        found = torch.cat([self.user_embedding.weight, self.item_embedding.weight])
        return found if self.hide is None or not self.training else self.hide(found)

    def layers(self, graph: SparseGraph, change: Callable[[int, Tensor], Tensor] | None = None) -> list[Tensor]:
        """E^(0) .. E^(K) [U + V, D], each after the first changed by ``change`` if it is given."""
        found = [self.nodes()]
        for number in range(1, self.config.n_layers + 1):
            layer = graph.product(found[-1])
            found.append(layer if change is None else change(number, layer))
        return found

    def vectors(self) -> tuple[Tensor, Tensor]:
        graph = self.training_graph() if self.training else self.graph()
        if not (self.training and self.config.auxiliary):
            self.step_layers = None
            return self.propagated(graph)
        layers = self.step_layers = self.layers(graph, self.perturbation)
        return self.graph().split(combined(layers, self.config.combine))

    def propagated(self, graph: SparseGraph) -> tuple[Tensor, Tensor]:
        """(users [U, D], items [V, D]): the layers along a graph put together, with nothing done to any of them."""
        return self.graph().split(graph.propagate(self.nodes(), self.config.n_layers, self.config.combine))

    @classmethod
    def served_names(cls) -> tuple[str, ...]:
        return "users", "items", "fold"

    def make_served(self) -> dict[str, Tensor]:
        layers = self.layers(self.graph())
        users, items = self.graph().split(combined(layers, self.config.combine))
        return {"users": users, "items": items, "fold": self.fold_table(layers)}

    def fold_table(self, layers: list[Tensor]) -> Tensor:
        """[V, D]: what an item gives to a new user, before the division by the root of the user's number of items."""
        root = self.graph().degree()[self.n_users :].clamp(min=1).float().sqrt()
        inner = [layer[self.n_users :] / root[:, None] for layer in layers[:-1]]
        if not inner:
            return torch.zeros_like(layers[0][self.n_users :])
        if self.config.combine == "last":
            return inner[-1]
        parts = {"mean": len(layers), "sum": 1, "without_first": len(inner)}[self.config.combine]
        return sum(inner[1:], inner[0]) / parts

    def fold_in(self, batch: Batch) -> Tensor:
        return self.sums_of_history(batch, self.served()["fold"]) / distinct_count(batch).sqrt()


@register("lightgcn", LightGCNConfig)
class LightGCN(GraphModel):
    """See the head of this file."""
