"""Many tests at once: adjusted p values, and letters that show who is told apart from whom.

With twenty models there are 190 pairs, and at 5 % each about ten of them would differ by chance alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

import numpy as np


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusted p values [T]: rejecting those of at most 5 % wrongly rejects any in at most 5 % of families, whatever their dependence.

    [Holm, Scandinavian Journal of Statistics 6, 1979]: the i-th smallest of n is multiplied by n - i + 1, and none falls below one before it.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def benjamini_hochberg(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusted p values [T]: of those rejected at 5 %, at most 5 % are expected to be wrong.

    [Benjamini and Hochberg, JRSS B 57, 1995]; it holds for independent tests and those that depend positively, as comparisons with one
    reference do.

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.04, 0.04]
    """
    from scipy.stats import false_discovery_control

    p = np.asarray(p, dtype=np.float64)
    return np.asarray(false_discovery_control(p, method="bh")) if len(p) else p


def letters(different: np.ndarray) -> list[str]:
    """Letters of each entrant; two that share one are not told apart, two that share none are. The first entrants get the first letters.

    different [M, M] bool, symmetric. Insert and absorb [Piepho, Journal of Computational and Graphical Statistics 13, 2004]: begin with one
    group of all, split every group that holds a different pair, drop groups that lie within another.

    >>> letters(np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=bool))
    ['a', 'ab', 'b']
    """
    groups = [frozenset(range(len(different)))]
    for i, j in zip(*np.nonzero(np.triu(different)), strict=True):
        split = [part for group in groups for part in _apart(group, int(i), int(j))]
        distinct = list(dict.fromkeys(split))
        groups = [group for group in distinct if not any(group < other for other in distinct)]
    ordered = sorted(groups, key=sorted)
    return ["".join(_letter(n) for n, group in enumerate(ordered) if i in group) for i in range(len(different))]


def _apart(group: frozenset[int], i: int, j: int) -> tuple[frozenset[int], ...]:
    return (group - {j}, group - {i}) if i in group and j in group else (group,)


def _letter(number: int) -> str:
    """a .. z, then a2 .. z2 and so on."""
    turn, place = divmod(number, len(ascii_lowercase))
    return ascii_lowercase[place] + (str(turn + 1) if turn else "")
