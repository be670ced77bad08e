"""LightGCL: a node is to be recognised in a graph that keeps only the strongest directions of who has what [Cai et al., ICLR 2023].

    G_u = sum over k of  U S V^T E_i^(k),   G_i = sum over k of  V S U^T E_u^(k),     k = 0 .. K-1, besides E^(0) itself
    L = L_model + weight * ( log sum over b exp(G_a . E_b / temperature) - clamp(G_a . E_a / temperature, -5, 5) )

as means over the users and the items of the batch, with U S V^T the decomposition of the normalised matrix of users and items
to ``rank`` directions, made once. Products are not normalised.

Glossary: lambda_1 -> ``weight``; tau -> ``temperature``; q -> ``rank``. Deviations: layers are put together as the model does it (the paper sums
them: ``model.combine=sum``); a node counts once in a batch; the matrices W of the authors' code, which it penalises and never uses, are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.data.batches import WindowDataset
from recbench.models.collaborative.entities import Step
from recbench.models.collaborative.lightgcn import GraphModel
from recbench.nn.graph.bipartite import Bipartite
from recbench.nn.graph.sparse_graph import combined
from recbench.objectives.auxiliary.base import GraphAuxiliary
from recbench.objectives.auxiliary.node_contrast import recognised
from recbench.objectives.contrastive.base import register

#: The bound of the positive products.
BOUND = 5.0


@register("lightgcl")
class LightGCL(GraphAuxiliary):
    """See the head of this file."""

    left: Tensor  # [U, rank], U sqrt(S)
    right: Tensor  # [V, rank], V sqrt(S)

    def __init__(self, config: Any, model: GraphModel, dataset: WindowDataset) -> None:
        super().__init__(config, model, dataset)
        for name, part in zip(("left", "right"), strongest(model.graph(), config.rank), strict=True):
            self.register_buffer(name, part.to(model.known.device), persistent=False)

    def terms_of(self, model: GraphModel, step: Step) -> dict[str, Tensor]:
        assert model.step_layers is not None
        layers = [model.graph().split(layer) for layer in model.step_layers]
        users, items = [layers[0][0]], [layers[0][1]]
        for before_users, before_items in layers[:-1]:
            users.append(self.left @ (self.right.T @ before_items))
            items.append(self.right @ (self.left.T @ before_users))
        how = model.config.combine
        parts = (
            (combined(users, how), step.users, step.user.unique()),
            (combined(items, how)[1:], step.items[1:], step.item.unique() - 1),
        )
        return {"lightgcl": sum((self.side(*part) for part in parts), step.users.new_zeros(()))}

    def side(self, view: Tensor, vectors: Tensor, node: Tensor) -> Tensor:
        own, temperature = F.embedding(node, view), self.config.temperature
        positive = (own * F.embedding(node, vectors)).sum(1) / temperature
        # -positive + log-sum-exp, with the positive put back and taken off once more within its bound.
        return recognised(own, vectors, node, temperature) + positive.mean() - positive.clamp(-BOUND, BOUND).mean()


def strongest(graph: Bipartite, rank: int) -> tuple[Tensor, Tensor]:
    """(U sqrt(S) [U, rank], V sqrt(S) [V, rank]) of the normalised matrix of users and items; the same at every call."""
    from scipy import sparse
    from scipy.sparse.linalg import svds

    n_items = graph.shape[0] - graph.n_users
    ends = graph.users.cpu().numpy(), graph.items.cpu().numpy()
    weight = graph.weight[: graph.n_pairs].cpu().double().numpy()
    matrix = sparse.csr_array((weight, ends), shape=(graph.n_users, n_items))
    count = max(1, min(rank, min(matrix.shape) - 1))
    start = np.random.default_rng(0).standard_normal(min(matrix.shape))
    left, size, right = svds(matrix, k=count, v0=start)
    parts = left * np.sqrt(size), right.T * np.sqrt(size)
    for part, end in zip(parts, ends, strict=True):
        part[np.setdiff1d(np.arange(len(part)), end)] = 0  # what has no edge is exactly nowhere
    return torch.from_numpy(parts[0].astype(np.float32)), torch.from_numpy(parts[1].astype(np.float32))
