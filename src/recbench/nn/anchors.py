"""Items that are laid beside a history because of its last item: what followed it most often in training, and two controls."""

from __future__ import annotations

import numpy as np

from recbench.data.training import TrainingData


def anchor_table(train: TrainingData, n: int, source: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(items [V, n] int64, the best first, 0 where there are fewer; counts [V, n] int64), from training events alone."""
    v = train.n_items + 1
    items, counts = np.zeros((v, n), dtype=np.int64), np.zeros((v, n), dtype=np.int64)
    n_kept = min(n, train.n_items)
    if source == "popular":
        times = train.item_counts()
        best = np.argsort(-times[1:], kind="stable")[:n_kept] + 1
        items[1:, :n_kept], counts[1:, :n_kept] = best, times[best]
    elif source == "random":
        generator = np.random.default_rng(seed)
        for last in range(1, v):
            items[last, :n_kept] = generator.choice(train.n_items, n_kept, replace=False) + 1
        counts[1:, :n_kept] = 1
    else:
        user, item, _ = train.flat()
        same = user[1:] == user[:-1]
        pair, often = np.unique(item[:-1][same].astype(np.int64) * v + item[1:][same], return_counts=True)
        before, after = pair // v, pair % v
        order = np.lexsort((after, -often, before))
        before, after, often = before[order], after[order], often[order]
        place = np.arange(len(before)) - np.searchsorted(before, before)
        kept = place < n
        items[before[kept], place[kept]], counts[before[kept], place[kept]] = after[kept], often[kept]
    return items, counts
