"""Items that are laid beside a history because of its last item: what followed it most often in training, and two controls."""

from __future__ import annotations

import numpy as np

from recbench.data.training import TrainingData


def anchor_table(
    train: TrainingData, n: int, source: str, seed: int, without: tuple[int, int] | None = None
) -> np.ndarray:
    """[V, n] int64: anchors of each last item, the best first, 0 where there are fewer; from training events alone.

    source: followers | popular | random. without: (fold, number of folds), the users whose number has that remainder are not counted (followers).
    """
    v = train.n_items + 1
    items = np.zeros((v, n), dtype=np.int64)
    n_kept = min(n, train.n_items)
    if source == "popular":
        times = train.item_counts()
        items[1:, :n_kept] = np.argsort(-times[1:], kind="stable")[:n_kept] + 1
    elif source == "random":
        generator = np.random.default_rng(seed)
        for last in range(1, v):
            items[last, :n_kept] = generator.choice(train.n_items, n_kept, replace=False) + 1
    else:
        user, item, _ = train.flat()
        same = user[1:] == user[:-1]
        if without is not None:
            same &= user[1:] % without[1] != without[0]
        pair, often = np.unique(item[:-1][same].astype(np.int64) * v + item[1:][same], return_counts=True)
        before, after = pair // v, pair % v
        order = np.lexsort((after, -often, before))
        before, after = before[order], after[order]
        place = np.arange(len(before)) - np.searchsorted(before, before)
        kept = place < n
        items[before[kept], place[kept]] = after[kept]
    return items
