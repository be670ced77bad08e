"""A random share of the training targets: the control of every selection, of the same size.

``by_popularity`` keeps the same share of the targets of rare and of popular items (five groups of about equal size).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbench.data.training import TrainingData
from recbench.models.registry import register
from recbench.models.selection.event_selection import EventSelection, ShareConfig, budget_of, is_target


@dataclass
class SelectRandomConfig(ShareConfig):
    """The share, and whether it is taken from each group of items by their popularity."""

    name: str = "select_random"
    by_popularity: bool = False


@register("select_random", SelectRandomConfig)
class SelectRandom(EventSelection):
    """See the head of this file."""

    def choose(self, train: TrainingData) -> tuple[np.ndarray, np.ndarray]:
        self.config.check()
        user, item, _ = train.flat()
        target = np.flatnonzero(is_target(user))
        draw = np.random.default_rng(self.seed).random(len(target))
        if self.config.by_popularity:
            counts = train.item_counts()[item[target]]
            group = np.searchsorted(np.quantile(counts, [0.2, 0.4, 0.6, 0.8]), counts)
            draw = within_group_order(draw, group)
        keep = np.zeros(len(user), dtype=bool)
        keep[target[np.argsort(draw, kind="stable")[: budget_of(self.config.share, len(target))]]] = True
        return keep, np.ones(len(user))


def within_group_order(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Each value's place among those of its group, as a share of the group's size: in 0..1, alike in every group."""
    order = np.lexsort((values, group))
    sizes = np.bincount(group)
    first = np.cumsum(sizes) - sizes
    place = np.empty(len(values))
    place[order] = (np.arange(len(values)) - first[group[order]] + 0.5) / sizes[group[order]]
    return place
