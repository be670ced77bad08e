"""What the metrics of lists read: lists and histories of a block of cases, and facts on the items that are the same for every block.

Shapes: C cases, B cases of a block, K length of a list, W = n_items + 1 (item 0 is the pad), G categories, T targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from recbench.data.cases import blocks_of_users, flat_ranges

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from recbench.data.cases import Cases
    from recbench.data.prepared import PreparedData

#: Events of histories that are looked at together.
EVENTS_AT_ONCE = 1 << 20
HEAD, MIDDLE, TAIL = range(3)
#: Share of the training events that the head has, and of those that head and middle have together.
BORDERS = (0.2, 0.8)


class Listed(Protocol):
    """What is read of an ``Evaluation`` with lists."""

    @property
    def case(self) -> np.ndarray: ...
    @property
    def target(self) -> np.ndarray: ...
    @property
    def rank(self) -> np.ndarray: ...
    @property
    def top_k_case(self) -> np.ndarray: ...
    @property
    def top_k(self) -> np.ndarray: ...
    @property
    def n_ranked(self) -> int: ...


@dataclass(frozen=True)
class Items:
    """Facts on items. counts [W] int64: training events; categories [W, G]: 1 where an item is of a category, a row of zeros where nothing is
    known; None where the data have no category that tells items apart. vectors [W, D]: of the item's text, of length 1, or zeros where it has none;
    None where the data have no text."""

    counts: np.ndarray
    categories: csr_matrix | None = None
    vectors: np.ndarray | None = None

    @cached_property
    def order(self) -> np.ndarray:
        """[W - 1] items, most popular first; equal ones by number."""
        return most_popular_first(self.counts)

    @cached_property
    def place(self) -> np.ndarray:
        """[W] the place of each item in ``order``, from 0; -1 for the pad."""
        place = np.full(len(self.counts), -1)
        place[self.order] = np.arange(len(self.order))
        return place

    @cached_property
    def group(self) -> np.ndarray:
        """[W] HEAD, MIDDLE or TAIL; -1 for the pad. See ``popularity_groups``."""
        return popularity_groups(self.counts)

    @cached_property
    def groups(self) -> csr_matrix:
        """[W, 3] with a 1 at each item's group."""
        from scipy.sparse import csr_matrix

        n = len(self.counts) - 1
        indptr = np.concatenate([[0], np.arange(n + 1)])
        return csr_matrix((np.ones(n), self.group[1:], indptr), shape=(n + 1, 3))

    @cached_property
    def shares(self) -> csr_matrix | None:
        """[W, G] categories of which each item gives itself one part in all: 1 / n for each of its n categories."""
        return None if self.categories is None else scaled_rows(self.categories, 1)

    @cached_property
    def category_vectors(self) -> csr_matrix | None:
        """[W, G] categories as vectors of length 1."""
        return None if self.categories is None else scaled_rows(self.categories, 2)


def most_popular_first(counts: np.ndarray) -> np.ndarray:
    """[W - 1] items by training events [W]; equal ones by number."""
    return np.argsort(-counts[1:], kind="stable") + 1


def popularity_groups(counts: np.ndarray) -> np.ndarray:
    """[W] int8, from training events [W]: the most popular items that together have 20 % of the events are the head, the least popular that have the
    last 20 % the tail, all others the middle [Abdollahpouri et al., UMAP 2021]. An item that stands on a border belongs to the group before it.

    Of ten events, item 1 has two, which is a fifth. Items without events are tail.

    >>> popularity_groups(np.array([0, 2, 6, 1, 1, 0])).tolist()
    [-1, 1, 0, 2, 2, 2]
    """
    order = most_popular_first(counts)
    before = np.cumsum(counts[order]) - counts[order]
    share = before / max(counts[1:].sum(), 1)
    group = np.full(len(counts), -1, np.int8)
    group[order] = np.where(counts[order] == 0, TAIL, np.searchsorted(BORDERS, share, side="right"))
    return group


def categories_of(data: PreparedData) -> csr_matrix | None:
    """[W, G] of the data's item table. A category of every item that has any tells nothing apart and is left out."""
    import polars as pl
    from scipy.sparse import csr_matrix

    named = data.item_table().select("item_id", "categories").explode("categories").drop_nulls().unique()
    n_known = named["item_id"].n_unique()
    named = named.filter(pl.len().over("categories") < n_known)
    if not named.height:
        return None
    number = named.select(pl.col("categories").rank("dense") - 1).to_series().to_numpy().astype(np.int64)
    places = (named["item_id"].to_numpy(), number)
    return csr_matrix((np.ones(named.height), places), shape=(data.n_items + 1, int(number.max()) + 1))


def scaled_rows(matrix: csr_matrix, power: int) -> csr_matrix:
    """Rows of non-negative values divided by their sum (power 1) or length (2); rows of zeros stay."""
    from scipy.sparse import diags

    size = np.asarray(matrix.power(power).sum(axis=1)).ravel() ** (1 / power)
    return (diags(np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)) @ matrix).tocsr()


@dataclass(frozen=True)
class Block:
    """B cases. lists [B, K]: best first, 0 where there is no item; history [B, W]: how often each item stands in the case's history.

    case [t]: row of each target, ascending; target, rank [t]. masked: items of the history are in no list.
    """

    lists: np.ndarray
    history: csr_matrix
    case: np.ndarray
    target: np.ndarray
    rank: np.ndarray
    masked: bool

    def sums(self, matrix: Any, cutoffs: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """(k, [B, D] sum of the rows of matrix [W, D] over the first k places) for each cutoff, ascending; every place is read once."""
        total, done = None, 0
        for k in sorted(set(cutoffs)):
            part = self.lists[:, done:k]
            if part.shape[1] or total is None:
                found = _summed(part, matrix)
                total = found if total is None else total + found
            done = min(k, self.lists.shape[1])
            yield k, total

    @cached_property
    def length(self) -> np.ndarray:
        """[B] events of the history."""
        return np.asarray(self.history.sum(axis=1)).ravel()

    def filled(self, k: int) -> np.ndarray:
        """[B] how many of the first k places hold an item."""
        return (self.lists[:, :k] > 0).sum(axis=1)


def _summed(part: np.ndarray, matrix: Any) -> Any:
    """[B, D] sum over the places of part [B, k] of the rows of matrix [W, D]; dense for a dense matrix, by the kernel that torch has for it."""
    if isinstance(matrix, np.ndarray):
        import torch

        bags = torch.from_numpy(np.ascontiguousarray(part, dtype=np.int64))
        return torch.nn.functional.embedding_bag(bags, torch.from_numpy(matrix), mode="sum").numpy()
    from scipy.sparse import csr_matrix

    indptr = np.arange(len(part) + 1) * part.shape[1]
    return csr_matrix((np.ones(part.size, matrix.dtype), part.ravel(), indptr), (len(part), matrix.shape[0])) @ matrix


def blocks(found: Listed, data: PreparedData, cases: Cases, masked: bool) -> Iterator[Block]:
    """All cases of an evaluation that made lists, in order, a few at a time. cases: those that were evaluated."""
    from scipy.sparse import csr_matrix

    start, end = cases.start[found.top_k_case], cases.end[found.top_k_case]
    row = np.searchsorted(found.top_k_case, found.case)
    for first, last in blocks_of_users(end - start, EVENTS_AT_ONCE):
        owner, position = flat_ranges(start[first:last], end[first:last])
        shape = (last - first, data.n_items + 1)
        history = csr_matrix((np.ones(len(owner)), (owner, np.asarray(data.items[position]))), shape)
        target = slice(*np.searchsorted(row, (first, last)))
        yield Block(
            found.top_k[first:last],
            history,
            row[target] - first,
            found.target[target].astype(np.int64),
            found.rank[target],
            masked,
        )
