"""Item-based nearest neighbours: items bought by the same users as those of the history [Deshpande and Karypis, TOIS 2004].

Glossary: n_i, users with item i in training; c_ij, users with both; similarity s_ij = c_ij / (sqrt(n_i n_j) + shrinkage), the cosine
of the two columns of the user-item matrix, drawn towards 0 where few users stand behind it; N_k(i), the k -> ``neighbours`` items most
similar to i -> the sparse rows ``row_start, column, similarity``;
score of item j = sum over history events with item i, j in N_k(i), of decay^(events since then) * s_ij.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.closed_form import ClosedForm
from recbench.models.registry import register
from recbench.nn.sparse_rows import add_rows, from_scipy, keep_largest

if TYPE_CHECKING:
    from scipy import sparse

#: Co-occurring pairs that exist at once while fitting; bounds the memory whatever the catalogue.
PAIRS_AT_ONCE = 5_000_000


@dataclass
class ItemKNNConfig(ModelConfig):
    """Size of the neighbourhood and how far to trust it."""

    name: str = "itemknn"
    neighbours: int = 100
    shrinkage: float = 10.0
    decay: float = 1.0


@register("itemknn", ItemKNNConfig)
class ItemKNN(ClosedForm):
    """See the head of this file."""

    reads_whole_history = True
    state_names: ClassVar[tuple[str, ...]] = ("row_start", "column", "similarity")
    row_start: Tensor
    column: Tensor
    similarity: Tensor

    def __init__(self, config: ItemKNNConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        if config.neighbours < 1:
            raise UserError(f"model.neighbours={config.neighbours} must be at least 1")
        if config.shrinkage < 0:
            raise UserError(f"model.shrinkage={config.shrinkage:g} must not be negative")
        if not 0 < config.decay <= 1:
            raise UserError(f"model.decay={config.decay:g} must lie above 0 and at most at 1 (1: no decay)")

    def fit_to(self, train: TrainingData) -> None:
        rows = nearest_neighbours(user_item_matrix(train), self.config.neighbours, self.config.shrinkage)
        for name, value in zip(self.state_names, from_scipy(rows), strict=True):
            self.set_state(name, value)

    def score(self, batch: Batch) -> Tensor:
        since = (batch.lengths[:, None] - 1 - torch.arange(batch.items.shape[1], device=batch.items.device)).clamp(
            min=0
        )
        factor = torch.pow(self.config.decay, since.float())
        scores = factor.new_zeros(len(batch), self.n_items + 1)
        return add_rows(scores, batch.items, factor, self.row_start, self.column, self.similarity)


def user_item_matrix(train: TrainingData) -> sparse.csr_array:
    """[n_users, n_items + 1] 1.0 where a user has an item in training, however often."""
    from scipy import sparse

    user, item, _ = train.flat()
    matrix = sparse.csr_array(
        (np.ones(len(user), dtype=np.float32), (user, item)), shape=(train.n_users, train.n_items + 1)
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def nearest_neighbours(interactions: sparse.csr_array, k: int, shrinkage: float) -> sparse.csr_array:
    """[V, V] for each item its k most similar other items, from a binary user-item matrix [U, V]."""
    from scipy import sparse

    by_item = interactions.T.tocsr()
    n_users = by_item.sum(axis=1).astype(np.float64)
    # Most pairs that the rows of an item can give: the lengths of the histories it stands in.
    pairs = by_item @ interactions.sum(axis=1)
    block = np.cumsum(pairs) // PAIRS_AT_ONCE
    bounds = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), by_item.shape[0]]
    kept = []
    for start, end in pairwise(bounds):
        together = (by_item[start:end] @ interactions).tocoo()
        row, column = together.row + start, together.col
        other = row != column
        row, column, count = row[other], column[other], together.data[other].astype(np.float64)
        similarity = count / (np.sqrt(n_users[row] * n_users[column]) + shrinkage)
        part = sparse.csr_array((similarity, (row - start, column)), shape=(end - start, by_item.shape[0]))
        kept.append(keep_largest(part, k))
    return sparse.csr_array(sparse.vstack(kept, format="csr"))
