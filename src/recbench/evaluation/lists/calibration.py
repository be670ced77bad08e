"""Calibration: how far the mix of a list is from the mix of the history that it was made for. 0: the same mix.

Category:    KL(p || q~) = sum over categories g of p(g) log(p(g) / q~(g)),  q~ = (1 - a) q + a p,  a = 0.01          [Steck, RecSys 2018]
Popularity:  JS(p, q) = (KL(p || m) + KL(q || m)) / 2,  m = (p + q) / 2,  in bits, over head, middle and tail  [Abdollahpouri et al., UMAP 2021]

p is the mix of the history, each event with equal weight, q that of the first k items. An item of n categories gives 1 / n to each.
A case has no value where nothing is known of its history or of its list. Shapes: B cases, W items and the pad, G categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from recbench.evaluation.lists.material import Block, Items, scaled_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Share of the history's mix that is mixed into the list's, so that a category which the list lacks costs much and not infinitely much.
ALPHA = 0.01


def kl_divergence(p: csr_matrix, q: csr_matrix, alpha: float = ALPHA) -> np.ndarray:
    """[B] KL(p || (1 - alpha) q + alpha p) in nats, of mixes [B, G] whose rows sum to 1; nan for a row of zeros in either.

    Half and half against one half alone: 0.5 log(0.5 / 0.995) + 0.5 log(0.5 / 0.005) = 1.9584.

    >>> from scipy.sparse import csr_matrix
    >>> kl_divergence(csr_matrix([[0.5, 0.5]]), csr_matrix([[1.0, 0.0]])).round(4)
    array([1.9585])
    """
    # Where the list has nothing of a category, the term is p log(1 / alpha): that is taken for all, and mended where it has something.
    both = p.sign().multiply(q.sign()).tocsr()
    ours, theirs = p.multiply(both).tocsr(), q.multiply(both).tocsr()
    ours.sort_indices()
    theirs.sort_indices()
    mended = ours.copy()
    mended.data = ours.data * (np.log(ours.data / ((1 - alpha) * theirs.data + alpha * ours.data)) + np.log(alpha))
    found = np.asarray(mended.sum(axis=1)).ravel() - np.log(alpha) * np.asarray(p.sum(axis=1)).ravel()
    return np.where((np.diff(p.indptr) > 0) & (np.diff(q.indptr) > 0), np.maximum(found, 0.0), np.nan)


def js_divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """[B] Jensen-Shannon divergence in bits, 0 to 1, of mixes [B, G]; nan where either is a row of zeros.

    >>> js_divergence(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.0, 1.0], [0.5, 0.5]])).tolist()
    [1.0, 0.0]
    """
    middle = (p + q) / 2

    def against_middle(mix: np.ndarray) -> np.ndarray:
        ratio = np.divide(mix, middle, out=np.ones_like(mix), where=mix > 0)
        return (mix * np.log2(ratio)).sum(axis=1)

    known = (p.sum(axis=1) > 0) & (q.sum(axis=1) > 0)
    return np.where(known, (against_middle(p) + against_middle(q)) / 2, np.nan)


def calibration(items: Items, block: Block, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """``calibration_popularity@k``, and ``calibration_category@k`` where the data have categories. Less is better."""
    found = {}
    history = scaled_rows(block.history @ items.groups, 1).toarray()
    for k, total in block.sums(items.groups, cutoffs):
        found[f"calibration_popularity@{k}"] = js_divergence(history, scaled_rows(total, 1).toarray())
    if items.shares is not None:
        mix = _clean(block.history @ items.shares)
        for k, total in block.sums(items.shares, cutoffs):
            found[f"calibration_category@{k}"] = kl_divergence(mix, _clean(total))
    return found


def _clean(mix: csr_matrix) -> csr_matrix:
    mix = scaled_rows(mix, 1)
    mix.eliminate_zeros()
    return mix
