"""Histories that somebody makes to ask a model about: real ones of a few users, and others made from these or from nothing.

    random   items drawn evenly
    markov   items that follow each other as in the few real histories; an even draw where an item was followed by none

A made history has the length, the times and the behaviours of a real one of the few. Made histories lie in memory, as prepared data of the same
items.

Shapes: S histories, N events of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recbench.core.errors import UserError
from recbench.data.cases import Cases, flat_ranges
from recbench.data.prepared import PreparedData
from recbench.data.training import TrainingData

#: Events that a user must have to be one of the few.
LEAST_EVENTS = 3


class MadeData(PreparedData):
    """Prepared data in memory, of the items of others."""

    @classmethod
    def like(cls, data: PreparedData) -> MadeData:
        """The same data, whose arrays may now be exchanged."""
        made = cls.__new__(cls)
        made.__dict__.update(data.__dict__)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("made histories are made anew in each process")


@dataclass(frozen=True)
class Sequences:
    """items [N] one history after another · place [N]: the flat position of the real event whose time and behaviour each has ·
    offsets [S + 1] · real [N] bool: the next event is one that happened."""

    items: np.ndarray
    place: np.ndarray
    offsets: np.ndarray
    real: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """[S]."""
        return np.diff(self.offsets)

    def followed_by(self, other: Sequences) -> Sequences:
        """These and then those."""
        return Sequences(
            np.concatenate([self.items, other.items]),
            np.concatenate([self.place, other.place]),
            np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]]),
            np.concatenate([self.real, other.real]),
        )

    def data(self, of: PreparedData) -> PreparedData:
        """As prepared data, each history a user's."""
        made = MadeData.like(of)
        made.items = self.items.astype(np.int32)
        made.take_events(of, self.place)
        made.offsets, made.n_interactions = self.offsets, len(self.items)
        made.n_users = made.n_real_users = len(self.offsets) - 1
        return made

    def cases(self, at: np.ndarray, targets: np.ndarray | None = None) -> Cases:
        """What comes after the events at ``at`` [C]; targets [C]: items to be ranked there, of no interest where there are none."""
        user = np.searchsorted(self.offsets, at, side="right") - 1
        wanted = np.ones(len(at)) if targets is None else targets
        return Cases(
            user.astype(np.int64),
            self.offsets[user],
            at + 1,
            np.arange(len(at) + 1, dtype=np.int64),
            wanted.astype(np.int32),
            np.minimum(at + 1, len(self.items) - 1),
        )


def few_users(train: TrainingData, share: float, max_length: int, generator: np.random.Generator) -> Sequences:
    """The last ``max_length`` training events of a share of the users. Raises UserError where that is not two."""
    known = np.flatnonzero(train.end - train.start >= LEAST_EVENTS)
    n = round(share * train.n_users)
    if min(n, len(known)) < 2:
        raise UserError(
            f"few={share:g} of {train.n_users:,} users is fewer than two with {LEAST_EVENTS} training events; raise it"
        )
    chosen = np.sort(generator.choice(known, min(n, len(known)), replace=False))
    start = np.maximum(train.end[chosen] - max_length, train.start[chosen])
    _, place = flat_ranges(start, train.end[chosen])
    offsets = np.concatenate([[0], np.cumsum(train.end[chosen] - start)]).astype(np.int64)
    real = np.ones(len(place), dtype=bool)
    real[offsets[1:] - 1] = False
    return Sequences(np.asarray(train.data.items[place], dtype=np.int64), place, offsets, real)


def outlines(few: Sequences, n_events: int, generator: np.random.Generator) -> Sequences:
    """Histories of ``n_events`` events together, each as long as one of the few drawn for it (the last is cut), without items."""
    lengths: list[int] = []
    like: list[int] = []
    left = n_events
    while left > 0:
        drawn = int(generator.integers(len(few.lengths)))
        lengths.append(min(int(few.lengths[drawn]), left))
        like.append(drawn)
        left -= lengths[-1]
    start = few.offsets[like]
    _, place = flat_ranges(start, start + lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    empty = np.zeros(n_events, dtype=np.int64)
    return Sequences(empty, few.place[place], offsets, empty.astype(bool))


def filled(kind: str, outline: Sequences, few: Sequences, n_items: int, generator: np.random.Generator) -> Sequences:
    """The items of ``random`` or ``markov`` put into an outline."""
    items = generator.integers(1, n_items + 1, len(outline.items))
    if kind == "markov":
        order = np.argsort(few.items[:-1], kind="stable")
        order = order[few.real[:-1][order]]
        before, after = few.items[order], few.items[order + 1]
        first = np.zeros(len(items), dtype=bool)
        first[outline.offsets[:-1]] = True
        for at in range(len(items)):
            if first[at]:
                items[at] = few.items[generator.integers(len(few.items))]
                continue
            low, high = np.searchsorted(before, [items[at - 1], items[at - 1] + 1])
            if high > low:
                items[at] = after[generator.integers(low, high)]
    return Sequences(items, outline.place, outline.offsets, outline.real)
