"""The training part of a split: what a model, a graph or a set of item codes may learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from recbench.data.cases import blocks_of_users, flat_ranges

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData

#: How single events are drawn as rows (``training.rows``): each once an epoch, or a user, uniformly, and then one of its events.
ROWS = ("events", "users_uniform")
#: Events that are counted at once.
EVENTS_AT_ONCE = 1 << 20


class HasTraining(Protocol):
    """What is read of a split."""

    @property
    def train_start(self) -> np.ndarray: ...
    @property
    def train_end(self) -> np.ndarray: ...


@dataclass(frozen=True)
class TrainingData:
    """The training part of a split: all that a model may learn from.

    start, end [U]: flat positions; the training events of user u are ``start[u] : end[u]``.
    """

    data: PreparedData
    start: np.ndarray
    end: np.ndarray

    @classmethod
    def of(cls, data: PreparedData, split: HasTraining) -> TrainingData:
        return cls(data, split.train_start, split.train_end)

    @classmethod
    def of_real_users(cls, data: PreparedData, split: HasTraining) -> TrainingData:
        """Without the fake users of an attack: what evaluation counts."""
        n = data.n_real_users
        return cls(data, split.train_start[:n], split.train_end[:n])

    @property
    def n_items(self) -> int:
        return self.data.n_items

    @property
    def n_users(self) -> int:
        return self.data.n_users

    def flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(user [M], item [M], timestamp [M]) of the training events, by user and then by time."""
        user, position = flat_ranges(self.start, self.end)
        return user, np.asarray(self.data.items[position]), np.asarray(self.data.timestamps[position])

    def item_counts(self) -> np.ndarray:
        """[n_items + 1] int64: how often each item occurs in training (0 for the pad)."""
        counts = np.zeros(self.n_items + 1, dtype=np.int64)
        for first, last in blocks_of_users(self.end - self.start, EVENTS_AT_ONCE):
            _, position = flat_ranges(self.start[first:last], self.end[first:last])
            counts += np.bincount(self.data.items[position], minlength=self.n_items + 1)
        return counts
