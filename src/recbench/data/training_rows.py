"""What a row of training is: a window of events, a single event, or all that a user has. A model says which (``Recommender.trains_on``).

All three are ranges of a user's training events, so they are ``Windows``. ``training.batch_size`` counts events in all three: a batch of users
has as many users as have so many events on average. Rows of events and of users have no targets.

    windows   up to ``max_length`` consecutive events and the event after each of them
    events    items [B, 1]: one event a row
    users     items [B, L]: all training events of a user, never cut; each user counts the same in the loss

``training.rows=users_uniform`` draws rows of events as LightGCN's own code does: a user, uniformly, and then one of its events, with replacement,
as many rows an epoch as there are events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from recbench.core.errors import UserError
from recbench.data.batches import WindowDataset, Windows, training_windows
from recbench.data.cases import flat_ranges
from recbench.data.epoch_sampler import EpochSampler

if TYPE_CHECKING:
    from recbench.data.training import TrainingData

TRAINS_ON = ("windows", "events", "users")

#: What is said where there is no row.
NOTHING = {
    "windows": "no user has two training events, so there is nothing to train on; loosen the filters or the protocol's cut",
    "events": "there is no training event, so there is nothing to train on; loosen the filters or the protocol's cut",
}


def training_rows(train: TrainingData, trains_on: str, max_length: int) -> WindowDataset:
    """The rows of an epoch. Raises UserError where there is none."""
    start, end = np.asarray(train.start), np.asarray(train.end)
    length = end - start
    if trains_on == "events":
        user, position = flat_ranges(start, end)
        windows = Windows(user, position, np.ones(len(user), dtype=np.int64))
    elif trains_on == "users":
        user = np.flatnonzero(length > 0)
        windows = Windows(user, start[user], length[user], alike=True)
    else:
        windows = training_windows(start, end, max_length)
    if windows.n_targets == 0:
        raise UserError(NOTHING.get(trains_on, NOTHING["events"]))
    return WindowDataset(train.data, windows, with_targets=trains_on == "windows")


class HasWindows(Protocol):
    """Rows that are batched as windows are."""

    @property
    def windows(self) -> Windows: ...


def epoch_sampler(
    dataset: HasWindows, rows: str, batch_size: int, seed: int, part: int = 0, parts: int = 1, steps: int = 0
) -> EpochSampler:
    """The batches of an epoch of these rows, or of a process's part of each. rows: one of ``recbench.data.training.ROWS``. steps: batches of
    an epoch, 0: each row once."""
    kind = UniformUsers if rows == "users_uniform" else SameNumber if dataset.windows.alike else EpochSampler
    return kind(dataset.windows, batch_size, seed, part, parts, steps)


class SameNumber(EpochSampler):
    """As many rows in each batch, in random order, however long they are.

    A step's loss is a mean over its rows. In batches of as many events, a user of 600 items would share a step with three others, and one of
    two items with five thousand.
    """

    def _round(self, epoch: int, more: tuple[int, ...]) -> list[np.ndarray]:
        order = np.random.default_rng((self.seed, epoch, *more)).permutation(len(self.windows.user))
        return np.array_split(order, self._in_a_round())

    def _in_a_round(self) -> int:
        return min(super()._in_a_round(), len(self.windows.user))


class UniformUsers(EpochSampler):
    """Rows of events with a uniformly drawn user each, and then one of its events."""

    def plan(self, epoch: int) -> list[np.ndarray]:
        generator = np.random.default_rng((self.seed, epoch))
        _, first, count = np.unique(self.windows.user, return_index=True, return_counts=True)
        n = self.steps * self.batch_size or len(self.windows.user)
        user = generator.integers(len(first), size=n)
        drawn = first[user] + (generator.random(n) * count[user]).astype(np.int64)
        return np.split(drawn, np.arange(self.batch_size, n, self.batch_size))
