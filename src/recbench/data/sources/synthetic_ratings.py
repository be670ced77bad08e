"""Ratings of synthetic users, 1 to 5 stars: a fixed number for each pair of a user and an item, whenever and however often it is asked for.

rating = 3.7 + quality of the item + mood of the user + taste of the user for the item's cluster + chance, rounded and cut to 1..5. All four are
normal and come from a hash of (seed, numbers), so a pair has its rating in every view of the data, and no event depends on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recbench.data.sources.synthetic_config import SyntheticConfig

MEAN = 3.7
#: Standard deviations of the four parts.
QUALITY, MOOD, TASTE, CHANCE = 0.5, 0.4, 0.6, 0.5
#: What tells the four parts apart in the hash.
PARTS = (QUALITY, MOOD, TASTE, CHANCE)


def ratings(config: SyntheticConfig, cluster: np.ndarray, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """[N] float32: the stars of each pair. cluster [V]: of each item; user, item [N]: numbers from 0."""
    zero = np.zeros(len(user), dtype=np.int64)
    of_part = ((zero, item), (user, zero), (user, cluster[item]), (user, item))
    drawn = sum(
        strength * _normal(config.seed, number, *pair)
        for number, (strength, pair) in enumerate(zip(PARTS, of_part, strict=True))
    )
    return np.clip(np.rint(MEAN + drawn), 1, 5).astype(np.float32)


def _normal(seed: int, part: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[N] a standard normal number of each pair: SplitMix64 of (seed, part, pair), through the inverse distribution."""
    from scipy.special import ndtri

    mixed = np.full(len(first), (seed * 0xD1342543DE82EF95 + part * 0x9E6C63D0876A9A99 + 1) % 2**64, dtype=np.uint64)
    for number in (first, second):
        mixed += (number.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
    return np.asarray(ndtri(((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53))
