"""EASE: the linear item-to-item model of least squares without self-similarity, in closed form [Steck, WWW 2019, equation 8].

Glossary: X, binary user-item matrix of the training events; G = X^T X + lambda I with lambda -> ``regularisation``; P = G^-1;
B_ij = -P_ij / P_jj off the diagonal and 0 on it -> ``weights``; score of item j = sum of B_ij over the distinct items i of the history.

Cost, for V = n_items + 1: V^2 float32 values of memory and of checkpoint, and V^3 multiply-adds. Measured on Beauty (12,101 items): 20 s of
processor time and 0.85 GB to fit, a checkpoint of 586 MB. float32 suffices: there it differs from float64 by 1e-6 of the diagonal of P.
``keep`` stores only the entries of largest size in each row: 500 of them took Beauty to 48 MB and, with lambda = 200, test NDCG@10 from
.0356 to .0359, which is within the noise but is not the same model, so the default keeps all. The default lambda is the best of 5, 20, 50,
200 and 500 by validation on Beauty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.closed_form import ClosedForm
from recbench.models.counting.itemknn import user_item_matrix
from recbench.models.registry import register
from recbench.nn.item_sets import distinct
from recbench.nn.sparse_rows import add_rows

if TYPE_CHECKING:
    from scipy import sparse

#: Rows of the dense matrix that are worked on at a time.
BLOCK_ROWS = 1024


@dataclass
class EASEConfig(ModelConfig):
    """Strength of the regularisation, and what may be spent."""

    name: str = "ease"
    regularisation: float = 50.0
    keep: int = 0
    max_items: int = 20_000


@register("ease", EASEConfig)
class EASE(ClosedForm):
    """See the head of this file."""

    reads_whole_history = True
    state_names: ClassVar[tuple[str, ...]] = ("weights", "columns")
    weights: Tensor  # [V, V], or [V, keep] beside columns
    columns: Tensor  # [V, keep] int32, empty where weights hold all columns

    def __init__(self, config: EASEConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        if not config.regularisation > 0:
            raise UserError(f"model.regularisation={config.regularisation:g} must be positive")
        if config.keep < 0:
            raise UserError(f"model.keep={config.keep} must not be negative (0 keeps all)")
        if context.n_items > config.max_items:
            raise UserError(
                f"ease inverts a dense matrix of {context.n_items:,} x {context.n_items:,} items, "
                f"{context.n_items**2 * 4 / 1e9:.1f} GB; raise model.max_items above {config.max_items:,} if your machine can, "
                "or use model=itemknn"
            )

    def fit_to(self, train: TrainingData) -> None:
        weights = ease_weights(user_item_matrix(train), self.config.regularisation)
        columns = np.empty(0, dtype=np.int32)
        if 0 < self.config.keep < len(weights):
            weights, columns = largest_of_rows(weights, self.config.keep)
        self.set_state("weights", torch.from_numpy(weights))
        self.set_state("columns", torch.from_numpy(columns))

    def score(self, batch: Batch) -> Tensor:
        items, first = distinct(batch.items)
        if items.shape[1] == 0:
            return self.weights.new_zeros(batch.items.shape[0], self.n_items + 1)
        factor = first.to(self.weights.dtype)
        if not self.columns.numel():
            # Row 0 is zero, so pads add nothing.
            return F.embedding_bag(items, self.weights, per_sample_weights=factor, mode="sum")
        # Every row is equally long, but the pad's is left out.
        row_start = torch.arange(len(self.columns) + 1, device=items.device) * self.columns.shape[1]
        row_start[0] = row_start[1]
        out = factor.new_zeros(batch.items.shape[0], self.n_items + 1)
        return add_rows(out, items, factor, row_start, self.columns.view(-1), self.weights.view(-1))


def ease_weights(interactions: sparse.csr_array, regularisation: float) -> np.ndarray:
    """[V, V] float32, B of the glossary, from a binary user-item matrix [U, V]; all in one array, because it is the memory.

    The pad's column is empty, so that its row and column of the inverse, and of B, come out as exact zeros.
    """
    from scipy.linalg import lapack

    by_item = interactions.T.tocsr()
    size = by_item.shape[0]
    matrix = np.empty((size, size), dtype=np.float32, order="F")
    for start in range(0, size, BLOCK_ROWS):
        matrix[start : start + BLOCK_ROWS] = (by_item[start : start + BLOCK_ROWS] @ interactions).toarray()
    matrix[np.diag_indices(size)] += regularisation
    matrix, failed = lapack.spotrf(matrix, lower=1, clean=0, overwrite_a=1)
    if not failed:
        matrix, failed = lapack.spotri(matrix, lower=1, overwrite_c=1)
    if failed:
        raise UserError(f"EASE cannot invert its matrix with model.regularisation={regularisation:g}; raise it")
    _mirror_lower(matrix)
    inverse = matrix.T  # symmetric: the transpose is the same matrix, in the row order that torch wants
    inverse /= -np.diag(inverse).copy()
    np.fill_diagonal(inverse, 0.0)
    return inverse


def _mirror_lower(matrix: np.ndarray) -> None:
    """Copy the lower triangle onto the upper one, in place."""
    size = len(matrix)
    for start in range(0, size, BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, size)
        matrix[start:end, end:] = matrix[end:, start:end].T
        corner = np.tril(matrix[start:end, start:end])
        matrix[start:end, start:end] = corner + np.tril(corner, -1).T


def largest_of_rows(matrix: np.ndarray, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """(values [V, keep], columns [V, keep] int32): the entries of each row that are largest in size, in column order."""
    columns = np.empty((len(matrix), keep), dtype=np.int32)
    for start in range(0, len(matrix), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        columns[rows] = np.sort(np.argpartition(-np.abs(matrix[rows]), keep - 1, axis=1)[:, :keep], axis=1)
    return np.take_along_axis(matrix, columns.astype(np.int64), axis=1), columns
