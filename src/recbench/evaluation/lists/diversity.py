"""Intra-list diversity: how unlike each other the items of a list are, by their categories and by their texts.

ILD@k = mean over pairs i < j of the first k items of 1 - cos(v_i, v_j)   [Smyth and McClave, ICCBR 2001; Ziegler et al., WWW 2005]

An item's vector says which categories it has, or is that of its text (TF-IDF on its leading directions, the same for every run on the data).
Items of which nothing is known are left out, and a list with fewer than two known items has no value. For vectors of length 1 the sum over
pairs is (|sum of v|^2 - n) / 2, so no pair is ever looked at. Shapes: B cases, W items and the pad.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recbench.evaluation.lists.material import Block, Items


def diversity(block: Block, vectors: Any, cutoffs: Sequence[int]) -> dict[int, np.ndarray]:
    """k -> [B] ILD@k; nan where fewer than two items are known. vectors [W, D], dense or sparse: rows of length 1 or 0.

    Three items in two categories: of three pairs one agrees, so 2/3.

    >>> from scipy.sparse import csr_matrix
    >>> vectors = np.array([[0.0, 0.0], [1, 0], [1, 0], [0, 1]])
    >>> block = Block(np.array([[1, 2, 3]]), csr_matrix((1, 4)), np.array([0]), np.array([3]), np.array([1.0]), True)
    >>> {k: value.round(4).tolist() for k, value in diversity(block, vectors, [2, 3]).items()}
    {2: [0.0], 3: [0.6667]}
    """
    known = np.asarray(vectors.multiply(vectors).sum(axis=1) if hasattr(vectors, "multiply") else (vectors**2).sum(1))
    known = known.ravel() > 0.5
    found = {}
    for k, total in block.sums(vectors, cutoffs):
        squared = (
            total.multiply(total).sum(axis=1) if hasattr(total, "multiply") else np.einsum("bd,bd->b", total, total)
        )
        n = known[block.lists[:, :k]].sum(axis=1).astype(np.float64)
        pairs = n * (n - 1)
        alike = np.asarray(squared, dtype=np.float64).ravel() - n
        found[k] = np.where(pairs > 0, 1 - alike / np.where(pairs > 0, pairs, 1.0), np.nan)
    return found


def ild(items: Items, block: Block, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """``ild_category@k`` and ``ild_text@k``, as far as the data have categories and texts."""
    kinds = {"category": items.category_vectors, "text": items.vectors}
    return {
        f"ild_{kind}@{k}": values
        for kind, vectors in kinds.items()
        if vectors is not None
        for k, values in diversity(block, vectors, cutoffs).items()
    }
