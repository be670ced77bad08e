"""Rows without a click, drawn for data that have clicks alone: the user and the context of a click, with an item that the user never clicked.

It is how most published sets of this kind were made [Frappe, in He and Chua, SIGIR 2017]. The items that a user never clicked are taken over all
parts, so a drawn row is never a click of the test. Shapes: K clicks, n negatives of each, I items.
"""

from __future__ import annotations

import numpy as np

from recbench.core.errors import UserError


def draw_items(
    user: np.ndarray, clicked: np.ndarray, n_items: int, n: int, seed: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """[K, n] items 0..I-1 for the users [K] of clicks. clicked [P]: the pairs user * n_items + item that must not be drawn, sorted.

    weights [I]: chances of the items; None: all alike. Raises UserError for a user who clicked everything.
    """
    generator = np.random.default_rng(seed)
    per_user = np.bincount(clicked // n_items, minlength=int(user.max(initial=-1)) + 1)
    if (full := np.flatnonzero(per_user[np.unique(user)] >= n_items)).size:
        raise UserError(
            f"{full.size} users clicked every item, so no row without a click can be drawn for them; set protocol.negatives=0"
        )
    cumulated = None if weights is None else np.cumsum(weights / weights.sum())
    owner = np.repeat(user.astype(np.int64), n)
    drawn = np.empty(len(owner), np.int64)
    todo = np.arange(len(owner))
    while len(todo):
        if cumulated is None:
            items = generator.integers(n_items, size=len(todo))
        else:
            items = np.minimum(np.searchsorted(cumulated, generator.random(len(todo)), side="right"), n_items - 1)
        drawn[todo] = items
        pair = owner[todo] * n_items + items
        at = np.minimum(np.searchsorted(clicked, pair), len(clicked) - 1)
        todo = todo[clicked[at] == pair]
    return drawn.reshape(-1, n)
