"""What the lists look like beside being right: how much of the catalogue they show, and how popular it is.

All from the lists of recommended items and from how often each item occurs in training. A slot with 0 holds no
recommendation and is left out. Shapes: C cases, k places, I items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def exposure(lists: np.ndarray, n_items: int) -> np.ndarray:
    """[I] how often each item 1..I is recommended in lists [C, k].

    >>> exposure(np.array([[1, 2], [1, 0]]), n_items=3)
    array([2, 1, 0])
    """
    return np.bincount(lists.ravel(), minlength=n_items + 1)[1:]


def coverage(shown: np.ndarray) -> float:
    """Share of the catalogue that is recommended to somebody.

    >>> coverage(np.array([2, 1, 0, 0]))
    0.5
    """
    return float((shown > 0).mean())


def gini(shown: np.ndarray) -> float:
    """Gini index of exposure over the whole catalogue: 0 if every item is shown equally often, (I - 1) / I if one item
    has it all.

    G = sum over i of (2 i - I - 1) x_i / (I sum x), with exposures x_1 <= ... <= x_I. All exposure on one of four
    items: (2 * 4 - 4 - 1) * 8 / (4 * 8) = 3/4.

    >>> gini(np.array([0, 8, 0, 0])), gini(np.array([3, 3, 3, 3]))
    (0.75, 0.0)
    """
    n, total = len(shown), shown.sum()
    if total == 0:
        return 0.0
    place = np.arange(1, n + 1)
    return float(((2 * place - n - 1) * np.sort(shown)).sum() / (n * total))


def mean_popularity(shown: np.ndarray, training_counts: np.ndarray) -> float:
    """Mean training count of the recommended items, each recommendation with equal weight.

    Item 1 (9 events) shown three times, item 2 (1 event) once: (3 * 9 + 1) / 4.

    >>> mean_popularity(np.array([3, 1]), np.array([9, 1]))
    7.0
    """
    return float((shown * training_counts).sum() / max(shown.sum(), 1))


def novelty(shown: np.ndarray, training_counts: np.ndarray) -> float:
    """Mean of -log2 p(item) in bits, with p = (count + 1) / (all counts + I): one event is added to every item, so that
    an item never seen in training is very novel and not infinitely so.

    Counts 3 and 3: p = 1/2 for both, one bit.

    >>> novelty(np.array([5, 1]), np.array([3, 3]))
    1.0
    """
    share = (training_counts + 1) / (training_counts.sum() + len(training_counts))
    return float((shown * -np.log2(share)).sum() / max(shown.sum(), 1))


def beyond_accuracy(lists: np.ndarray, training_counts: np.ndarray, cutoffs: Sequence[int]) -> dict[str, float]:
    """coverage@k, gini@k, mean_popularity@k and novelty@k for each cutoff.

    lists [C, k]: recommended items, best first; training_counts [I + 1]: events of each item in training, index 0 (the
    pad) ignored. Raises ValueError if a cutoff is longer than the lists although the catalogue has more items.
    """
    counts = training_counts[1:]
    found: dict[str, float] = {}
    for k in cutoffs:
        if min(k, len(counts)) > lists.shape[1]:
            raise ValueError(f"lists of {lists.shape[1]} items are too short for cutoff {k}")
        shown = exposure(lists[:, :k], len(counts))
        found |= {
            f"coverage@{k}": coverage(shown),
            f"gini@{k}": gini(shown),
            f"mean_popularity@{k}": mean_popularity(shown, counts),
            f"novelty@{k}": novelty(shown, counts),
        }
    return found
