"""How well the next item of the synthetic data can be predicted at all.

For one target, ranking items by their true probability given the history is best for NDCG, HR and MRR alike. The oracle
does that for the last event of each user (test) and the one before it (validation): with the world known exactly, nothing is left
to be learned, and no scorer can be better except by luck on the realised targets.

Shapes: B cases, V items of the catalogue, L the longest history.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from recbench.data.sources.synthetic_events import Histories
from recbench.data.sources.synthetic_world import World, next_probabilities

CUTOFF = 10
METRICS = (f"ndcg@{CUTOFF}", f"hr@{CUTOFF}", "mrr")
#: Largest number of probabilities held at once, and in a whole pass: a large catalogue is judged on fewer users.
CELLS_AT_ONCE = 4_000_000
CELLS_IN_ALL = 40_000_000


def oracle_users(n_users: int, n_items: int, most: int) -> np.ndarray:
    """Users on whom the oracle is computed: all, or an even sample where that would take too long."""
    wanted = max(1, min(n_users, most, CELLS_IN_ALL // n_items))
    return np.unique(np.linspace(0, n_users - 1, wanted).astype(np.int64))


def oracle(
    world: World, histories: Histories, occurs: np.ndarray, allow_repeats: bool, long_gap_share: float
) -> dict[str, float]:
    """The best reachable metrics, as shares in 0..1.

    histories: of the users to judge on; occurs [V] bool: the catalogue, i.e. the items that any user met.
    ``<part>/ndcg@10``, ``<part>/hr@10`` and ``<part>/mrr`` rank the realised targets; ``..._expected`` average over what the target could have
    been, which is free of the luck of the draw; ``..._time_blind`` is the best of a model that does not see the timestamps.
    """
    seeing = histories.after_long.astype(float)
    blind = np.full(histories.items.shape, long_gap_share)
    n = len(histories.lengths)
    found: dict[str, float] = {}
    for part, back in (("validation", 2), ("test", 1)):
        for ending, long_chance in (("", seeing), ("_time_blind", blind)):
            realised, expected = np.zeros(3), np.zeros(2)
            for p, target in _cases(world, histories, long_chance, back, occurs, allow_repeats):
                realised += realised_gains(p, target)
                if long_chance is seeing:
                    expected += expected_gains(p)
            found |= {f"{part}/{name}{ending}": float(gain) / n for name, gain in zip(METRICS, realised, strict=True)}
            if long_chance is seeing:
                found |= {
                    f"{part}/{name}_expected": float(gain) / n for name, gain in zip(METRICS, expected, strict=False)
                }
    return found


def _cases(
    world: World,
    histories: Histories,
    long_chance: np.ndarray,
    back: int,
    occurs: np.ndarray,
    allow_repeats: bool,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of (distribution over the catalogue [B, V], target [B]), the target being the event ``back`` places from the end."""
    block = max(1, CELLS_AT_ONCE // world.n_items)
    for start in range(0, len(histories.lengths), block):
        rows = np.arange(start, min(start + block, len(histories.lengths)))
        place = histories.lengths[rows] - back
        items = histories.items[rows]
        last, before = histories.items[rows, place - 1], np.where(place >= 2, histories.items[rows, place - 2], -1)
        seen = None if allow_repeats else np.where(np.arange(items.shape[1]) < place[:, None], items, -1)
        p = next_probabilities(world, last, before, long_chance[rows, place - 1], seen) * occurs
        yield p / p.sum(axis=1, keepdims=True), histories.items[rows, place]


def realised_gains(p: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[3] sums over cases of METRICS for ``target`` [B] when items are ranked by ``p`` [B, V]."""
    of_target = p[np.arange(len(p)), target][:, None]
    # The tie rule of every metric in this project: the middle of the tied places.
    rank = 1 + (p > of_target).sum(axis=1) + ((p == of_target).sum(axis=1) - 1) / 2
    hit = rank <= CUTOFF
    return np.array([(hit / np.log2(rank + 1)).sum(), hit.sum(), (1 / rank).sum()])


def expected_gains(p: np.ndarray) -> np.ndarray:
    """[2] the first two when targets are drawn from ``p`` itself: the likeliest items, each by the gain of its place."""
    best = largest(p, CUTOFF)
    return np.array([(best / np.log2(np.arange(best.shape[1]) + 2.0)).sum(), best.sum()])


def largest(p: np.ndarray, k: int) -> np.ndarray:
    """[B, min(k, V)] the largest probabilities of each row, descending.

    They lie in the k blocks of columns that have the largest maxima, so all others are passed over: 20 times faster at V = 1 M.
    """
    n, v = p.shape
    k, width = min(k, v), math.isqrt(v)
    blocks = np.pad(p, ((0, 0), (0, -v % width))).reshape(n, -1, width)
    if blocks.shape[1] > k:
        chosen = np.argpartition(blocks.max(axis=2), -k, axis=1)[:, -k:]
        blocks = np.take_along_axis(blocks, chosen[:, :, None], axis=1)
    return -np.sort(-np.partition(blocks.reshape(n, -1), -k, axis=1)[:, -k:], axis=1)
