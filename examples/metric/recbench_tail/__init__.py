"""``evaluation.metrics=[tail_hit,tail_share]``: how well the long tail is served. The tail is every item outside the most popular fifth."""

import numpy as np

from recbench.models import RankedLists


def in_tail(ranked: RankedLists) -> np.ndarray:
    """[n_items + 1] bool: True for an item of the tail. The pad, item 0, is in none."""
    counts = ranked.training_counts[1:]
    head = np.argsort(-counts, kind="stable")[: len(counts) // 5] + 1
    tail = np.ones(len(counts) + 1, dtype=bool)
    tail[0] = tail[head] = False
    return tail


def tail_hit(ranked: RankedLists, k: int) -> np.ndarray:
    """[C]: 1 where a target of the tail is among the first k, else 0."""
    hits = (ranked.rank <= k) & in_tail(ranked)[ranked.target]
    return (np.bincount(ranked.case, weights=hits, minlength=ranked.n_cases) > 0).astype(float)


def tail_share(ranked: RankedLists, k: int) -> np.ndarray:
    """[C]: the share of the first k places that show an item of the tail."""
    shown = ranked.lists[:, :k]
    return in_tail(ranked)[shown].mean(axis=1)
