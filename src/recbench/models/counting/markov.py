"""First-order Markov chain: what followed the last item in training, backed off to popularity [Rendle et al., WWW 2010, section 4].

Glossary: c_ij, times that item j came directly after item i in a user's training events; p_ij = c_ij / sum_j c_ij -> the sparse
rows ``row_start, column, probability``; q_j, share of item j in all training events -> ``popularity``;
score of item j after last item i = (1 - b) p_ij + b q_j with b -> ``backoff``. After an item that nothing ever followed: b q_j.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from recbench.core.key_fields import LATER
from recbench.data.batches import Batch
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.checks import check_share
from recbench.models.closed_form import ClosedForm
from recbench.models.registry import register
from recbench.nn.sparse_rows import add_rows, from_scipy, last_items

if TYPE_CHECKING:
    from scipy import sparse


@dataclass
class MarkovConfig(ModelConfig):
    """How much popularity is mixed in, and whether successors of equal count are told apart.

    first_seen: among them, the one that followed first in training stands first, as in a plain counter's list of the most
    common; needed to meet published floors, which leave no ties. Otherwise ties stay ties and share a rank.
    """

    name: str = "markov"
    backoff: float = 0.1
    first_seen: bool = field(default=False, metadata=LATER)


@register("markov", MarkovConfig)
class Markov(ClosedForm):
    """See the head of this file."""

    state_names: ClassVar[tuple[str, ...]] = ("row_start", "column", "probability", "popularity")
    row_start: Tensor
    column: Tensor
    probability: Tensor
    popularity: Tensor  # [n_items + 1]

    def __init__(self, config: MarkovConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_share("backoff", config.backoff)

    def fit_to(self, train: TrainingData) -> None:
        from scipy import sparse

        user, item, _ = train.flat()
        same_user = user[1:] == user[:-1]
        before, after = item[:-1][same_user], item[1:][same_user]
        size = train.n_items + 1
        # Building from coordinates adds up the pairs that occur more than once.
        counts = sparse.csr_array((np.ones(len(before)), (before, after)), shape=(size, size))
        counts.sum_duplicates()
        totals = counts.sum(axis=1)
        if self.config.first_seen:
            counts.data -= _later_share(counts, before.astype(np.int64) * size + after)
        counts.data /= np.repeat(totals, np.diff(counts.indptr))
        for name, value in zip(self.state_names, from_scipy(counts), strict=False):
            self.set_state(name, value)
        popularity = np.bincount(item, minlength=size) / max(1, len(item))
        self.set_state("popularity", torch.from_numpy(popularity).float())

    def score(self, batch: Batch) -> Tensor:
        scores = (self.config.backoff * self.popularity).repeat(len(batch), 1)
        last = last_items(batch.items, batch.lengths)
        factor = torch.full(last.shape, 1.0 - self.config.backoff, device=scores.device)
        return add_rows(scores, last, factor, self.row_start, self.column, self.probability)


def _later_share(counts: sparse.csr_array, pairs: np.ndarray) -> np.ndarray:
    """[nnz] in 0..1, less than 1: the share of a row's entries that were seen before each. Taken off whole counts it orders
    the equal ones and no others. pairs [P]: row * n_columns + column, as they came."""
    row = np.repeat(np.arange(counts.shape[0], dtype=np.int64), np.diff(counts.indptr))
    kinds, first = np.unique(pairs, return_index=True)
    seen = first[np.searchsorted(kinds, row * counts.shape[1] + counts.indices)]
    order = np.lexsort((seen, row))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - counts.indptr[row]
    return place / np.diff(counts.indptr)[row]
