"""Disparity: how differently groups of users, and groups of items, are served. 0: all alike.

Users:   largest less smallest mean NDCG@k of a group. ``disparity_activity``: users by the length of their history, in four groups of equal
         size. ``disparity_taste``: users by the share of head items in their history, in three [Abdollahpouri et al., UMAP 2021].
         ``disparity_user_NAME``: users by an attribute that the data know of them (``data.users``), of values that at least 1 % of the cases and ten
         of them have; users of whom it is not known are left out.
Items:   largest less smallest share of targets that are found (rank <= k). ``disparity_popularity``: targets of head, middle and tail.
         ``disparity_category``: targets by category, of categories with at least 1 % of the targets and ten of them.
Shown:   ``disparity_exposure`` = sum over head, middle and tail of |share of places - share of training events| / 2: which part of all
         places would have to be given to another group [Singh and Joachims, KDD 2018].

The difference of the extremes grows with the number of groups, and noise alone makes some of it: compare it between models, on the same data.
Shapes: C cases, T targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recbench.evaluation.lists.material import HEAD, Block, Items
from recbench.evaluation.metrics import per_case

#: The smallest group of targets by category that is looked at: as a share of all, and in number.
SMALLEST_SHARE, SMALLEST = 0.01, 10


@dataclass(frozen=True)
class Served:
    """All cases of a test. taste [C]: share of head items in the history; length [C]: events of the history; case, target, rank [T]: of the targets,
    case by row."""

    taste: np.ndarray
    length: np.ndarray
    case: np.ndarray
    target: np.ndarray
    rank: np.ndarray
    lists: np.ndarray
    n_ranked: int
    #: Name of an attribute -> [C] number of its value from 0; -1 where nothing is known.
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)


def taste(items: Items, block: Block) -> np.ndarray:
    """[B] share of head items among the events of a history; 0 for an empty one."""
    head = block.history @ (items.group == HEAD).astype(np.float64)
    return np.divide(head, block.length, out=np.zeros_like(block.length), where=block.length > 0)


def by_size(values: np.ndarray, n_groups: int) -> np.ndarray:
    """[C] group 0 .. n_groups - 1 of each value, of equal size as far as equal values allow: these are never parted.

    >>> by_size(np.array([1, 1, 1, 5, 7, 9]), 3).tolist()
    [0, 0, 0, 1, 2, 2]
    """
    borders = np.quantile(values, np.arange(1, n_groups) / n_groups, method="lower")
    return np.searchsorted(np.unique(borders), values, side="left")


def gap(values: np.ndarray, group: np.ndarray) -> float:
    """Largest less smallest mean of the groups that are there; a negative group is none. nan where nothing is there.

    >>> gap(np.array([1.0, 0.0, 1.0]), np.array([0, 0, 1]))
    0.5
    """
    kept = group >= 0
    if not kept.any():
        return float("nan")
    count = np.bincount(group[kept])
    means = np.bincount(group[kept], weights=values[kept])[count > 0] / count[count > 0]
    return float(means.max() - means.min())


def disparity(items: Items, served: Served, cutoffs: Sequence[int]) -> dict[str, float]:
    """``disparity_activity@k``, ``_taste``, ``_popularity``, ``_exposure`` and, where the data have categories, ``_category``, and
    ``disparity_user_NAME@k`` for each attribute."""
    activity, tastes = by_size(served.length, 4), by_size(served.taste, 3)
    popularity, found = items.group[served.target].astype(np.int64), {}
    training = np.bincount(items.group[1:], weights=items.counts[1:], minlength=3) / max(items.counts[1:].sum(), 1)
    for k in cutoffs:
        quality = per_case(f"ndcg@{k}", served.rank, served.case, served.n_ranked)
        hit = (served.rank <= k).astype(np.float64)
        found[f"disparity_activity@{k}"] = gap(quality, activity)
        found[f"disparity_taste@{k}"] = gap(quality, tastes)
        found[f"disparity_popularity@{k}"] = gap(hit, popularity)
        listed = items.group[served.lists[:, :k]]
        shown = np.bincount(listed[listed >= 0], minlength=3)
        found[f"disparity_exposure@{k}"] = float(np.abs(shown / max(shown.sum(), 1) - training).sum() / 2)
        for name, group in served.attributes.items():
            found[f"disparity_user_{name}@{k}"] = gap(quality, without_small(group))
        if items.categories is not None:
            found[f"disparity_category@{k}"] = category_gap(items, served.target, hit)
    return found


def without_small(group: np.ndarray) -> np.ndarray:
    """[C] groups with -1 in place of those that are too small to be looked at, and of all where fewer than two are left.

    >>> without_small(np.array([0] * 10 + [1] * 10 + [2])).tolist()[-2:]
    [1, -1]
    """
    count = np.bincount(group[group >= 0], minlength=1)
    large = count >= max(SMALLEST, SMALLEST_SHARE * len(group))
    if large.sum() < 2:
        return np.full(len(group), -1)
    return np.where((group >= 0) & large[group], group, -1)


def category_gap(items: Items, target: np.ndarray, hit: np.ndarray) -> float:
    """As ``gap`` of the targets' hits [T] by category; a target counts in each of its categories."""
    assert items.categories is not None
    of_target = items.categories[target]
    count = np.asarray(of_target.sum(axis=0)).ravel()
    large = count >= max(SMALLEST, SMALLEST_SHARE * len(target))
    if not large.any():
        return float("nan")
    means = (of_target.T @ hit)[large] / count[large]
    return float(means.max() - means.min())
