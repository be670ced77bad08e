"""SimGCL: a node is to be recognised between two passes with random noise after each layer; the graph stays whole [Yu et al., SIGIR 2022].

    L = L_model + weight * (InfoNCE of users + InfoNCE of items),     each layer of a view:  e + eps * sign(e) * u,  |u| = 1

A view is the mean of its layers 1 .. K, without E^(0), as in the paper (SSLRec keeps it). A step propagates three times; ``xsimgcl`` needs one.

Glossary: lambda -> ``weight``; tau -> ``temperature``; epsilon -> ``eps`` (.1 in the paper, .9 in SSLRec). Deviations: the model's own vectors keep
E^(0) unless ``model.combine=without_first``; rivals are all nodes unless ``rivals=batch``, which is the authors' code.
"""

from __future__ import annotations

from torch import Tensor

from recbench.core.errors import UserError
from recbench.models.collaborative.entities import Step
from recbench.models.collaborative.lightgcn import GraphModel
from recbench.nn.graph.sparse_graph import combined
from recbench.objectives.auxiliary.base import GraphAuxiliary
from recbench.objectives.auxiliary.node_contrast import both_sides
from recbench.objectives.auxiliary.noise import with_noise
from recbench.objectives.contrastive.base import register


@register("simgcl")
class SimGCL(GraphAuxiliary):
    """See the head of this file."""

    def terms_of(self, model: GraphModel, step: Step) -> dict[str, Tensor]:
        if not model.config.n_layers:
            raise UserError("model.auxiliary=simgcl compares layers along the graph; set model.n_layers to at least 1")
        first, second = (self.view(model) for _ in range(2))
        return {"simgcl": both_sides(first, second, step.user, step.item, self.config)}

    def view(self, model: GraphModel) -> tuple[Tensor, Tensor]:
        layers = model.layers(model.training_graph(), lambda number, layer: with_noise(layer, self.config.eps))
        return model.graph().split(combined(layers, "without_first"))
