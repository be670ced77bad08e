"""What all rounds of ``recbench probe loop`` share: the settings, who is asked, and data that grow by a round's events.

Shapes: U users, L events of a history, T items that a user is tested on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recbench.cli.probe.settings import check_least
from recbench.config.run import RunConfig
from recbench.core.errors import UserError, nearest
from recbench.data.cases import flat_ranges
from recbench.data.training import TrainingData
from recbench.experiment.context import RunContext
from recbench.posthoc.probes.rewrites import REWRITES
from recbench.posthoc.probes.sequences import MadeData
from recbench.posthoc.probes.taste import Histories, Taste


@dataclass
class LoopSettings:
    """What the figures depend on."""

    rounds: int = 5
    k: int = 10  # length of a list
    epochs: int = 3  # of each retraining; a computed model knows none
    warm: bool = True  # go on from the weights of the round before; false: from fresh ones
    copies: str = "none"  # none | identical | style | bigram: each item once more, with its text rewritten
    seed: int = 0

    def check(self) -> None:
        """Raise UserError for numbers that make no sense."""
        check_least(self, rounds=1, k=1, epochs=1, seed=0)
        known = ("none", *REWRITES)
        if self.copies not in known:
            raise UserError(f"unknown copies '{self.copies}'; {nearest(self.copies, known)}")
        if self.copies != "none" and not self.warm:
            raise UserError("copies go with warm=true: only from the run's weights is it known what they mean")


@dataclass(frozen=True)
class World:
    """What all rounds share. stage: of the run, its catalogue doubled where there are copies; n: items of the data; held_back [U, T]: items that a
    user is tested on, 0 past the end."""

    config: RunConfig
    stage: RunContext
    settings: LoopSettings
    taste: Taste
    n: int
    held_back: np.ndarray
    popular: np.ndarray  # [n + 1] bool

    @property
    def has_copies(self) -> bool:
        return self.settings.copies != "none"

    def liked(self, histories: Histories) -> np.ndarray:
        """[U, n + 1] how likely each item is a user's next event, if it is none that the user is tested on; 0 for these."""
        found = self.taste.next(histories)
        np.put_along_axis(found, self.held_back, 0.0, axis=1)
        return found / np.maximum(found.sum(axis=1, keepdims=True), 1e-12)

    def grown(self, histories: Histories) -> RunContext:
        """Data and split with these histories for training. What validation and test ask stays where it was."""
        data, split = self.stage.data, self.stage.split
        made = MadeData.like(data)
        real, first = histories.real, len(data.items)
        made.items = np.concatenate([data.items, histories.items[real].astype(np.int32)])
        made.timestamps = np.concatenate([data.timestamps, histories.times[real]])
        for name in ("behaviours", "sessions", "parts"):
            if (array := getattr(data, name)) is not None:
                setattr(made, name, np.concatenate([array, self._beside(array, histories)]))
        ends = first + np.cumsum(histories.lengths)
        made.n_interactions = len(made.items)
        return RunContext(made, replace(split, train_start=ends - histories.lengths, train_end=ends))

    def _beside(self, array: np.ndarray, histories: Histories) -> np.ndarray:
        """What stands beside the training events, and for further ones the value of a user's last (a click: the first behaviour)."""
        split = self.stage.split
        wide = padded(array, split.train_start, split.train_end, histories.items.shape[1])
        old = split.train_end - split.train_start
        new = histories.real & (np.arange(wide.shape[1]) >= old[:, None])
        last = 1 if array is self.stage.data.behaviours else array[np.maximum(split.train_end - 1, 0)][:, None]
        return np.where(new, last, wide).astype(array.dtype)[histories.real]


def first_histories(train: TrainingData) -> Histories:
    """The training events of all users."""
    items, times = (padded(values, train.start, train.end) for values in (train.data.items, train.data.timestamps))
    return Histories(items, times, np.asarray(train.end - train.start))


def padded(values: np.ndarray, start: np.ndarray, end: np.ndarray, width: int | None = None) -> np.ndarray:
    """[U, L] int64: the values start:end of each row, 0 past the end. width: L, if it is not to be the length of the longest, at least 1."""
    row, place = flat_ranges(start, end)
    found = np.zeros((len(start), width or max(1, int((end - start).max()))), dtype=np.int64)
    found[row, place - start[row]] = values[place]
    return found


def held_back(stage: RunContext) -> np.ndarray:
    """[U, T] the items that each user is validated or tested on, 0 past the end."""
    parts = [stage.split.validation, stage.split.test]
    user = np.concatenate([np.repeat(cases.user, cases.n_targets) for cases in parts])
    item = np.concatenate([cases.targets for cases in parts])
    order = np.argsort(user, kind="stable")
    counts = np.bincount(user, minlength=stage.data.n_users)
    found = np.zeros((stage.data.n_users, max(1, int(counts.max()))), dtype=np.int64)
    within = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    found[user[order], within] = item[order]
    return found
