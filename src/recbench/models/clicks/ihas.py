"""iHAS: rows that need the same numbers of the same fields form a group, and each group has a model of its own [arXiv 2309.07967, CIKM 2023].

Made after the abstract; the equations are ours. What is different about this model: it is made in three stages. ``ihas_search`` (a run of its own)
finds the gates of every row; here the gates of training rows are clustered by k-means, and one DeepFM a group is trained on the rows of that group,
with the dimensions that are open in its centre.

    k(row) = argmin_k |z(row) - c_k|^2;   m_k = 1 where c_k >= 1/2;   logit = b + DeepFM_k(m_k x)

Glossary: searching -> ``search``; clustering -> ``centres`` c; optimal dimensions of a group -> ``open`` m; retraining -> ``groups``.

Controls: ``n_groups: 1`` is a search of dimensions for all rows alike; ``cut: false`` keeps the groups and all dimensions.

Deviations: all that the abstract does not say. Closed dimensions are held at 0, not cut out of the tables, so memory is not saved. A group that
would close all keeps its most open dimension. The frozen search is kept within the model, because rows to come are grouped by it.

Shapes: B rows, E fields, D embedding_size of the search, K groups.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.clicks.rows import ClickBatch, ClickTraining
from recbench.models.base import ModelContext
from recbench.models.checks import check_sizes
from recbench.models.clicks.click_model import ClickConfig, ClickModel
from recbench.models.clicks.ihas_search import IHASSearch
from recbench.models.kept_run import KeptRun
from recbench.models.registry import register
from recbench.nn.codes.quantization import kmeans_codebook
from recbench.nn.fields.embedding import FieldEmbedding, pairwise_products
from recbench.nn.fields.mlp import MLP

log = logging.getLogger(__name__)

#: Training rows whose gates are clustered, at most; drawn by the seed of the run.
CLUSTERED_ROWS = 50_000


@dataclass
class IHASConfig(ClickConfig):
    """search: the run that finds the gates. n_groups: models that are trained. cut: whether they lose the dimensions closed in their group."""

    name: str = "ihas"
    embedding_size: int = 16
    search: dict[str, Any] = field(default_factory=lambda: {"model": "ihas_search"})
    n_groups: int = 4
    cut: bool = True
    layers: list[int] = field(default_factory=lambda: [128, 64])
    dropout: float = 0.2


class GroupModel(nn.Module):
    """A DeepFM over the open dimensions of one group. is_open [E, D]."""

    def __init__(self, weights: FieldEmbedding, vectors: FieldEmbedding, network: MLP) -> None:
        super().__init__()
        self.weights, self.vectors, self.network = weights, vectors, network

    def forward(self, rows: tuple[Tensor, Tensor, tuple[Tensor, ...]], is_open: Tensor) -> Tensor:
        """[B]."""
        x = self.vectors(*rows) * is_open
        return self.weights(*rows).sum((1, 2)) + pairwise_products(x) + self.network(x.flatten(1)).squeeze(-1)


@register("ihas", IHASConfig)
class IHAS(ClickModel):
    """See the head of this file."""

    has_groups: ClassVar[bool] = True
    centres: Tensor
    open: Tensor

    @classmethod
    def dependencies(cls, config: Any) -> dict[str, dict[str, Any]]:
        if config.search.get("model") != "ihas_search":
            raise UserError(
                f"model.search.model={config.search.get('model')} opens no gates; set model.search.model=ihas_search"
            )
        return {"search": {"embedding_size": config.embedding_size, **config.search}}

    def __init__(self, config: IHASConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "n_groups")
        d = config.embedding_size
        if (width := config.search.get("embedding_size", d)) != d:
            raise UserError(
                f"model.search.embedding_size={width} must be model.embedding_size={d}: gates open its numbers"
            )
        self.groups = nn.ModuleList()
        for _ in range(config.n_groups):
            weights, vectors = self.embedding(1), self.embedding(d)
            network = MLP(vectors.n_fields * d, config.layers, config.dropout)
            self.groups.append(GroupModel(weights, vectors, network))
        n_fields = vectors.n_fields
        self.register_buffer("centres", torch.zeros(config.n_groups, n_fields * d))
        self.register_buffer("open", torch.ones(config.n_groups, n_fields, d))
        self.search = KeptRun(context, context.dependencies.get("search"))
        if self.search.model is not None and isinstance(context.train, ClickTraining):
            self._make_groups(context.train, context.seed)

    def _make_groups(self, train: ClickTraining, seed: int) -> None:
        """Cluster the gates of training rows."""
        rows = train.rows
        if len(rows) > CLUSTERED_ROWS:
            rows = np.sort(np.random.default_rng(seed).choice(rows, CLUSTERED_ROWS, replace=False))
        device = self.centres.device
        gates = torch.cat([self._gates(batch.to(device)) for _, batch in train.clicks.blocks(rows, 0)])
        centres = kmeans_codebook(gates.cpu().numpy(), self.config.n_groups, seed)
        self.centres.copy_(torch.from_numpy(centres))
        if self.config.cut:
            kept = self.centres >= 0.5
            kept[torch.arange(len(kept)), self.centres.argmax(1)] = True
            self.open.copy_(kept.view_as(self.open))
        sizes = self._nearest(gates).bincount(minlength=self.config.n_groups).tolist()
        shares = self.open.mean((1, 2)).tolist()
        said = ", ".join(f"{n:,} rows, {share:.0%} open" for n, share in zip(sizes, shares, strict=True))
        log.info("groups of rows by the gates of %s: %s", train.data.folder.name, said)

    @torch.no_grad()
    def _gates(self, rows: ClickBatch) -> Tensor:
        """[B, E D] float."""
        assert isinstance(self.search.model, IHASSearch)
        return self.search.model.open_gates(rows).flatten(1).float()

    def _nearest(self, gates: Tensor) -> Tensor:
        """[B] number of the centre next to each row of gates, the first of equally near ones."""
        # |z - c|^2 less what is the same for all centres of a row.
        return (self.centres.square().sum(1) - 2 * gates @ self.centres.T).argmin(1)

    def group_of(self, rows: ClickBatch) -> Tensor:
        """[B] int64. All rows are of group 0 where there is no search, as in an estimate of hours."""
        if self.search.model is None:
            return torch.zeros_like(rows.item)
        return self._nearest(self._gates(rows))

    def click_logits(self, rows: ClickBatch) -> Tensor:
        group, parts, places = self.group_of(rows), [], []
        for number, model in enumerate(self.groups):
            place = (group == number).nonzero(as_tuple=True)[0]
            if len(place):
                several = tuple(values[place] for values in rows.several)
                parts.append(model((rows.categories[place], rows.numbers[place], several), self.open[number]))
                places.append(place)
        found = torch.empty(0, device=group.device) if not parts else torch.cat(parts)
        order = torch.cat(places).argsort() if places else group
        return self.bias + found[order]

    def penalties(self) -> Tensor:
        """Of the tables of the groups; the search is frozen."""
        if not self.config.penalty:
            return self.bias.new_zeros(())
        tables = [part.penalty() for part in self.groups.modules() if isinstance(part, FieldEmbedding)]
        return 0.5 * self.config.penalty * torch.stack(tables).sum()

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        kept = {name.removeprefix("search."): part for name, part in state.items() if name.startswith("search.")}
        self.search.load_stored_state(kept)
        self.load_state_dict(dict(state))
