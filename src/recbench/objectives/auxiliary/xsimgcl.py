"""XSimGCL: SimGCL in one pass: the model's own layers carry the noise, and one of them is compared with the whole [Yu et al., TKDE 2023].

    L = L_model + weight * (InfoNCE of users + InfoNCE of items)  between the vectors of the step and those of layer ``layer``

No further propagation: the cheap one of this line. In evaluation there is no noise.

Glossary: lambda -> ``weight``; tau -> ``temperature``; epsilon -> ``eps``; l* -> ``layer``. Deviations: the paper's vectors are the mean of the
layers 1 .. K, which is ``model.combine=without_first``; rivals are all nodes unless ``rivals=batch``, which is the authors' code.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from recbench.core.errors import UserError
from recbench.data.batches import WindowDataset
from recbench.models.collaborative.entities import Step
from recbench.models.collaborative.lightgcn import GraphModel
from recbench.objectives.auxiliary.base import GraphAuxiliary
from recbench.objectives.auxiliary.node_contrast import both_sides
from recbench.objectives.auxiliary.noise import with_noise
from recbench.objectives.contrastive.base import register


@register("xsimgcl")
class XSimGCL(GraphAuxiliary):
    """See the head of this file."""

    def __init__(self, config: Any, model: GraphModel, dataset: WindowDataset) -> None:
        super().__init__(config, model, dataset)
        if not config.layer <= model.config.n_layers:
            raise UserError(f"model.xsimgcl.layer={config.layer} is beyond model.n_layers={model.config.n_layers}")
        self.compared: Tensor | None = None
        model.perturbation = self.changed

    def changed(self, number: int, layer: Tensor) -> Tensor:
        noisy = with_noise(layer, self.config.eps)
        if number == self.config.layer:
            self.compared = noisy
        return noisy

    def terms_of(self, model: GraphModel, step: Step) -> dict[str, Tensor]:
        assert self.compared is not None
        other = model.graph().split(self.compared)
        self.compared = None
        return {"xsimgcl": both_sides((step.users, step.items), other, step.user, step.item, self.config)}
