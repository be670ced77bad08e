"""GF-CF: two filters of the graph of users and items, in closed form [Shen et al., CIKM 2021].

What is different: nothing is learned by gradient and no item-item matrix is inverted, so it fits catalogues that EASE cannot. A history is
smoothed once along the graph (items of users who share items with it), and once by the strongest directions of the whole graph.

Glossary: R, binary user-item matrix of the training events; D_u, D_i, its degrees; N = D_u^-1/2 R D_i^-1/2 -> ``graph`` (``row_start,
column, value``); V, the right singular vectors of N for its ``directions`` largest singular values -> ``basis``; alpha -> ``low_pass``;

    scores = r N^T N + alpha r D_i^-1/2 V V^T D_i^1/2

for a history r as a row of zeros and ones, which need not be that of a training user. Pads and items without a training event have degree 0
and score 0.

Deviations: none known; the authors drop the second term on one of their data sets, which is ``low_pass=0``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.closed_form import ClosedForm
from recbench.models.counting.itemknn import user_item_matrix
from recbench.models.registry import register


@dataclass
class GFCFConfig(ModelConfig):
    """How many directions, and the weight of what they say."""

    name: str = "gfcf"
    directions: int = 256
    low_pass: float = 0.3


@register("gfcf", GFCFConfig)
class GFCF(ClosedForm):
    """See the head of this file."""

    reads_whole_history = True
    state_names: ClassVar[tuple[str, ...]] = ("row_start", "column", "value", "basis", "degree")
    row_start: Tensor  # [U+1] int64, of N by user
    column: Tensor  # [M] int64
    value: Tensor  # [M]
    basis: Tensor  # [V, directions], V = n_items + 1
    degree: Tensor  # [V]

    def __init__(self, config: GFCFConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        if config.directions < 0:
            raise UserError(f"model.directions={config.directions} must not be negative (0 leaves them out)")
        if not config.low_pass >= 0:
            raise UserError(f"model.low_pass={config.low_pass:g} must not be negative")
        # N and its transpose as they are multiplied, made of the state at the first question: no part of it.
        self._by_user: Tensor | None = None
        self._by_item: Tensor

    def set_state(self, name: str, value: Tensor) -> None:
        super().set_state(name, value)
        self._by_user = None

    def fit_to(self, train: TrainingData) -> None:
        from scipy import sparse

        rows = user_item_matrix(train).astype(np.float64)
        users, items = (np.asarray(rows.sum(axis=axis)).ravel() for axis in (1, 0))
        graph = sparse.csr_array(
            sparse.diags_array(inverse_root(users)) @ rows @ sparse.diags_array(inverse_root(items))
        )
        graph.sort_indices()
        self.set_state("row_start", torch.from_numpy(graph.indptr.astype(np.int64)))
        self.set_state("column", torch.from_numpy(graph.indices.astype(np.int64)))
        self.set_state("value", torch.from_numpy(graph.data.astype(np.float32)))
        self.set_state("basis", torch.from_numpy(strongest(graph, self.config.directions).astype(np.float32)))
        self.set_state("degree", torch.from_numpy(items.astype(np.float32)))

    def graph(self) -> Tensor:
        """N, sparse [U, V]."""
        shape = len(self.row_start) - 1, len(self.degree)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(self.row_start, self.column, self.value, shape, check_invariants=False)

    def score(self, batch: Batch) -> Tensor:
        history = torch.zeros(len(batch), len(self.degree), dtype=self.value.dtype, device=self.value.device)
        history.scatter_(1, batch.items, 1.0)
        history[:, 0] = 0.0
        if torch.compiler.is_exporting():
            raise UserError("its products with a sparse graph of users cannot be traced")
        if self._by_user is None or self._by_user.device != history.device:
            self._by_user = self.graph()
            self._by_item = self._by_user.to_sparse_coo().t()
        like_users = self._by_user @ history.T  # [U, B]: how much of the history each training user shares
        scores = (self._by_item @ like_users).T.contiguous()
        if self.config.low_pass and self.basis.shape[1]:
            root = self.degree.sqrt()
            start = history * torch.where(root > 0, 1 / root, 0.0)
            scores += self.config.low_pass * ((start @ self.basis) @ self.basis.T) * root
        return scores


def inverse_root(degree: np.ndarray) -> np.ndarray:
    """degree^-1/2, and 0 where it is 0."""
    return np.divide(1.0, np.sqrt(degree), out=np.zeros_like(degree, dtype=np.float64), where=degree > 0)


def strongest(graph: object, directions: int) -> np.ndarray:
    """[V, at most directions] right singular vectors of a sparse [U, V] matrix, of its largest singular values; the same at every call."""
    from scipy.sparse.linalg import svds

    shape: tuple[int, int] = graph.shape  # type: ignore[attr-defined]
    count = min(directions, min(shape) - 1)
    if count < 1:
        return np.empty((shape[1], 0))
    start = np.random.default_rng(0).standard_normal(min(shape))
    return np.ascontiguousarray(svds(graph, k=count, v0=start, return_singular_vectors="vh")[2].T)
