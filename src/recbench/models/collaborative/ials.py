"""iALS: matrix factorisation of all pairs of users and items, by least squares in turns [Hu et al., ICDM 2008; Rendle et al., RecSys 2022].

What is different: every pair counts, those that did not happen with a small weight, so nothing is drawn; and both sides are solved exactly,
so a new user is too: the vector of a history is one ridge solve, for users of training and others alike.

Glossary: N(u), items of user u in training; alpha_0, weight of all pairs -> ``unobserved_weight``; lambda -> ``regularisation``; nu ->
``frequency_exponent``; d -> ``factors``; H, item vectors -> ``items``. With G = alpha_0 H^T H, the vector of a history N is the w of

    (G + sum over i in N of h_i h_i^T + lambda (|N| + alpha_0 I)^nu Id) w = sum over i in N of h_i

and the items are solved from the users' vectors in the same way. Score: w . h_j.

Deviations: an item that occurs twice in a history counts once. Items without a training event end with vector 0. After the last sweep the
items are final and a user's vector is solved from them whenever it is asked for, so no user is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.checks import check_share
from recbench.models.closed_form import ClosedForm
from recbench.models.counting.itemknn import user_item_matrix
from recbench.models.registry import register
from recbench.nn.item_sets import distinct_items

#: Vectors of histories that are gathered at once while fitting, [rows, L, d] together.
VALUES_AT_ONCE = 1 << 23


@dataclass
class IALSConfig(ModelConfig):
    """Two of these decide everything and have to be chosen together: unobserved_weight and regularisation."""

    name: str = "ials"
    factors: int = 64
    sweeps: int = 16
    unobserved_weight: float = 0.1
    regularisation: float = 0.01
    frequency_exponent: float = 1.0


@register("ials", IALSConfig)
class IALS(ClosedForm):
    """See the head of this file."""

    uses_seed = True
    reads_whole_history = True
    state_names: ClassVar[tuple[str, ...]] = ("items",)
    items: Tensor  # [V, d]

    def __init__(self, config: IALSConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        self.seed = context.seed
        for name in ("factors", "sweeps"):
            if getattr(config, name) < 1:
                raise UserError(f"model.{name}={getattr(config, name)} must be at least 1")
        for name in ("unobserved_weight", "regularisation"):
            if not getattr(config, name) > 0:
                raise UserError(f"model.{name}={getattr(config, name):g} must be positive")
        check_share("frequency_exponent", config.frequency_exponent)

    def fit_to(self, train: TrainingData) -> None:
        rows = user_item_matrix(train)
        by_user, by_item = rows, rows.T.tocsr()
        draw = np.random.default_rng(self.seed)
        items = draw.normal(0, 0.1 / np.sqrt(self.config.factors), (by_item.shape[0], self.config.factors))
        known = torch.from_numpy(np.diff(by_item.indptr) > 0)
        found = torch.from_numpy(items.astype(np.float32)) * known[:, None]
        for _ in range(self.config.sweeps):
            users = self.solve_all(by_user, found, self.n_items)
            found = self.solve_all(by_item, users, train.n_users)
        self.set_state("items", found)

    def solve_all(self, rows: object, other: Tensor, n_other: int) -> Tensor:
        """The vectors [R, d] of one side from those of the other [S, d], of which n_other are no pad; rows: sparse [R, S].

        A row without entries has vector 0.
        """
        indptr, indices = rows.indptr, rows.indices  # type: ignore[attr-defined]
        found = other.new_zeros(len(indptr) - 1, other.shape[1])
        gram = self.config.unobserved_weight * other.T @ other
        padded = torch.cat([other, other.new_zeros(1, other.shape[1])])
        for chosen, width in alike(np.diff(indptr), other.shape[1]):
            place = np.arange(width)
            real = place < np.diff(indptr)[chosen][:, None]
            position = np.where(real, indptr[chosen][:, None] + place, 0)
            index = torch.from_numpy(np.where(real, indices[position], len(other)).astype(np.int64))
            count = torch.from_numpy(real.sum(axis=1))
            found[torch.from_numpy(chosen)] = self.solve(padded[index], count, gram, n_other)
        return found

    def solve(self, vectors: Tensor, count: Tensor, gram: Tensor, n_other: int) -> Tensor:
        """[R, d] from the vectors [R, L, d] of each row's entries (0 where there is none), their number [R], and alpha_0 H^T H [d, d]."""
        config = self.config
        penalty = config.regularisation * (count + config.unobserved_weight * n_other) ** config.frequency_exponent
        matrix = vectors.transpose(1, 2) @ vectors + gram
        matrix.diagonal(dim1=1, dim2=2).add_(penalty.to(matrix.dtype)[:, None])
        return torch.cholesky_solve(vectors.sum(dim=1)[:, :, None], torch.linalg.cholesky(matrix))[:, :, 0]

    def user_states(self, batch: Batch) -> Tensor:
        """[B, d]: the vector of each history."""
        items, kept = distinct_items(batch.items)
        vectors = self.items[items] * kept[:, :, None]
        gram = self.config.unobserved_weight * self.items.T @ self.items
        return self.solve(vectors, kept.sum(dim=1), gram, self.n_items)

    def score(self, batch: Batch) -> Tensor:
        return self.user_states(batch) @ self.items.T

    def item_vectors(self) -> Tensor:
        return self.items


def alike(length: np.ndarray, width: int) -> Iterator[tuple[np.ndarray, int]]:
    """(rows, longest of them): all rows with an entry, sorted by length and cut so that little is padded and memory is bounded."""
    order = np.argsort(length, kind="stable")
    order = order[length[order] > 0]
    first = 0
    while first < len(order):
        longest = int(length[order[first]])
        # Rows of up to a quarter more than the shortest one stand together.
        last = int(np.searchsorted(length[order], max(longest + 4, longest * 5 // 4), side="right"))
        longest = int(length[order[last - 1]])
        last = min(last, first + max(1, VALUES_AT_ONCE // (max(longest, width) * width)))
        chosen = order[first:last]
        yield chosen, int(length[chosen[-1]])
        first = last
