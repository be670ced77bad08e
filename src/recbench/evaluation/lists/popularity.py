"""Popularity of lists: how popular the listed items are, how much of the long tail is listed, and how much of it is found.

The tail: the least popular items that together have the last 20 % of the training events (``material.popularity_groups``).
ARP@k = mean training count of the first k items                                  [Yin et al., VLDB 2012]
APLT@k = share of the first k items that are of the tail                          [Abdollahpouri et al., FLAIRS 2019]
tail recall@k = share of a case's targets of the tail that have rank <= k; a case without such a target has no value.

ARP@k is averaged over cases; ``mean_popularity@k``, which every run has, over places. They differ where lists are short.
Shapes: B cases, t targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recbench.evaluation.lists.material import TAIL, Block, Items


def arp(items: Items, block: Block, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """``arp@k`` [B]; nan for an empty list.

    Items with 9 and 1 events: 5.

    >>> from scipy.sparse import csr_matrix
    >>> block = Block(np.array([[1, 2], [2, 0]]), csr_matrix((2, 3)), np.array([0]), np.array([1]), np.array([1.0]), True)
    >>> arp(Items(np.array([0, 9, 1])), block, [2])["arp@2"].tolist()
    [5.0, 1.0]
    """
    return {f"arp@{k}": _share(items.counts[block.lists[:, :k]].sum(axis=1), block.filled(k)) for k in cutoffs}


def aplt(items: Items, block: Block, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """``aplt@k`` [B]; nan for an empty list.

    Item 2 has one of ten events and is the tail: half of the first list, all of the second.

    >>> from scipy.sparse import csr_matrix
    >>> block = Block(np.array([[1, 2], [2, 0]]), csr_matrix((2, 3)), np.array([0]), np.array([1]), np.array([1.0]), True)
    >>> aplt(Items(np.array([0, 9, 1])), block, [2])["aplt@2"].tolist()
    [0.5, 1.0]
    """
    in_tail = items.group == TAIL
    return {f"aplt@{k}": _share(in_tail[block.lists[:, :k]].sum(axis=1), block.filled(k)) for k in cutoffs}


def tail_recall(items: Items, block: Block, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """``tail_recall@k`` [B]; nan for a case whose targets are none of the tail.

    >>> from scipy.sparse import csr_matrix
    >>> block = Block(np.array([[1, 2], [2, 1]]), csr_matrix((2, 3)), np.array([0, 1]), np.array([2, 1]), np.array([2.0, 2.0]), True)
    >>> tail_recall(Items(np.array([0, 9, 1])), block, [1, 2])
    {'tail_recall@1': array([ 0., nan]), 'tail_recall@2': array([ 1., nan])}
    """
    of_tail = items.group[block.target] == TAIL
    n, case = len(block.lists), block.case[of_tail]
    asked = np.bincount(case, minlength=n)
    return {
        f"tail_recall@{k}": _share(
            np.minimum(np.bincount(case, weights=block.rank[of_tail] <= k, minlength=n), k), asked
        )
        for k in cutoffs
    }


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
