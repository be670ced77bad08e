"""Serendipity: hits that a list of popular items would not have had.

serendipity@k = |{targets with rank <= k} less P_k| / k     [Murakami et al., JSAI 2007; Ge et al., RecSys 2010]

P_k, what everybody expects: the k items with most training events; where a protocol masks the history, the k that the history does not hold.
It is at most precision@k, and 0 for a popularity model. Shapes: B cases, t targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recbench.data.cases import flat_ranges
from recbench.evaluation.lists.material import Block, Items


def serendipity(items: Items, block: Block, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """``serendipity@k`` [B].

    Items by popularity: 1, 2, 3. Both users find their target first. Item 1 was to be expected, and so was item 2 of a user who had item 1:

    >>> from scipy.sparse import csr_matrix
    >>> had = csr_matrix(np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]))
    >>> block = Block(np.array([[1], [2], [3]]), had, np.arange(3), np.array([1, 2, 3]), np.ones(3), masked=True)
    >>> serendipity(Items(np.array([0, 9, 5, 1])), block, [1])["serendipity@1"].tolist()
    [0.0, 0.0, 1.0]
    """
    hit = np.flatnonzero(block.rank <= max(cutoffs))
    case, rank = block.case[hit], block.rank[hit]
    place = items.place[block.target[hit]].astype(np.int64)
    if block.masked and len(hit):
        start, end = block.history.indptr[case], block.history.indptr[case + 1]
        row, position = flat_ranges(start.astype(np.int64), end.astype(np.int64))
        before = items.place[block.history.indices[position]] < items.place[block.target[hit]][row]
        place = place - np.bincount(row, weights=before, minlength=len(hit)).astype(np.int64)
    found = {}
    for k in cutoffs:
        surprising = (rank <= k) & (place >= k)
        count = np.bincount(case, weights=surprising, minlength=len(block.lists))
        found[f"serendipity@{k}"] = np.minimum(count, k) / k
    return found
