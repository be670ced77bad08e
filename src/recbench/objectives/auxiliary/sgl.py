"""SGL: a node is to be recognised between two graphs that each lack a random share of the edges [Wu et al., SIGIR 2021].

    L = L_model + weight * (InfoNCE of users + InfoNCE of items)     (``node_contrast.py``)

The two graphs are drawn once an epoch, so a step propagates three times. Edges are dropped in both directions at once and the weights made from the
degrees that are left, as in the authors' code; SSLRec drops the two directions apart and leaves the weights.

Glossary: lambda_1 -> ``weight``; tau -> ``temperature``; rho -> ``drop``. Deviations: of the paper's three ways to make a view the best one, edge
dropout; the third term of SSLRec, over negatives, is left out, as in the paper.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbench.data.batches import WindowDataset
from recbench.models.collaborative.entities import Step
from recbench.models.collaborative.lightgcn import GraphModel
from recbench.nn.graph.bipartite import Bipartite
from recbench.objectives.auxiliary.base import GraphAuxiliary
from recbench.objectives.auxiliary.node_contrast import both_sides
from recbench.objectives.contrastive.base import register


@register("sgl")
class SGL(GraphAuxiliary):
    """See the head of this file."""

    def __init__(self, config: Any, model: GraphModel, dataset: WindowDataset) -> None:
        super().__init__(config, model, dataset)
        self.graph = model.graph()
        self.views: tuple[Bipartite, Bipartite] | None = None
        self.start_epoch(0, torch.Generator().manual_seed(0))

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        first, second = (torch.rand(self.graph.n_pairs, generator=generator) >= self.config.drop for _ in range(2))
        device = self.graph.start.device
        self.views = tuple(self.graph.of_some(keep.to(device), renormalise=True) for keep in (first, second))  # type: ignore[assignment]

    def terms_of(self, model: GraphModel, step: Step) -> dict[str, Tensor]:
        assert self.views is not None
        first, second = (model.propagated(view.to(step.users.device)) for view in self.views)
        return {"sgl": both_sides(first, second, step.user, step.item, self.config)}
