"""SplitMix64: random numbers that a place has by itself, whatever is asked before it or beside it [Steele, Lea and Flood, OOPSLA 2014]."""

from __future__ import annotations

import numpy as np

#: What neighbouring places are multiplied by, so that they lie far apart.
STEP = np.uint64(0x9E3779B97F4A7C15)


def splitmix64(x: np.ndarray) -> np.ndarray:
    """uint64 numbers, of any shape -> as many that look random: near ones far apart, equal ones equal.

    >>> splitmix64(np.arange(2, dtype=np.uint64) * STEP).tolist()
    [0, 16294208416658607535]
    """
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
