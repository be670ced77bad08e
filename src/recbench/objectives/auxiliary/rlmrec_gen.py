"""RLMRec-Gen: some nodes are hidden, and the text of each is to be recognised from the vector that its neighbours give it [Ren et al., WWW 2024].

    L = L_model + weight * InfoNCE between g(e_a) and s_a over the hidden nodes a

At each step a share ``mask`` of all nodes has its E^(0) replaced by one learned vector before propagation, also for the model's own loss; g
mirrors the network of ``rlmrec_con``, s are the profiles of ``profiles.py``. Beside models that propagate along the graph of users and items.

Glossary: kd_weight -> ``weight``; kd_temperature -> ``temperature``; mask_ratio -> ``mask``. Deviations: profiles as in ``profiles.py``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.data.batches import Batch, WindowDataset
from recbench.models.collaborative.entities import Step
from recbench.models.collaborative.lightgcn import GraphModel
from recbench.objectives.auxiliary.base import GraphAuxiliary
from recbench.objectives.auxiliary.node_contrast import recognised
from recbench.objectives.auxiliary.profiles import network, profiles
from recbench.objectives.contrastive.base import register


@register("rlmrec_gen")
class RLMRecGen(GraphAuxiliary):
    """See the head of this file."""

    texts: Tensor  # [U + V, F]

    def __init__(self, config: Any, model: GraphModel, dataset: WindowDataset) -> None:
        super().__init__(config, model, dataset)
        self.register_buffer("texts", torch.cat(profiles(model, config.shuffle)), persistent=False)
        #: Nodes that have a text: others are never hidden.
        self.register_buffer("told", self.texts.any(1).nonzero()[:, 0], persistent=False)
        self.token = nn.Parameter(torch.randn(model.config.hidden_size) * model.config.deviation)
        self.network = network(model.config.hidden_size, self.texts.shape[1])
        self.hidden: Tensor | None = None
        model.hide = self.hide

    def draw(self, batch: Batch) -> None:
        told: Any = self.told
        n = max(1, round(self.config.mask * len(told)))
        self.hidden = told[torch.randperm(len(told), device=told.device)[:n]]

    def hide(self, nodes: Tensor) -> Tensor:
        """E^(0) [U + V, D] with the hidden rows replaced."""
        if self.hidden is None:
            return nodes
        return nodes.index_copy(0, self.hidden, self.token.expand(len(self.hidden), -1))

    def terms_of(self, model: GraphModel, step: Step) -> dict[str, Tensor]:
        assert self.hidden is not None
        nodes = F.embedding(self.hidden, torch.cat([step.users, step.items]))
        said = F.normalize(self.network(nodes), dim=1)
        texts = F.embedding(self.hidden, self.texts)
        place = torch.arange(len(texts), device=texts.device)
        self.hidden = None
        return {"rlmrec_gen": recognised(said, texts, place, self.config.temperature)}
