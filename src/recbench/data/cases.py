"""What is asked of a model: from this history, rank these targets.

Shapes: C cases, T targets of all cases together, K candidates a case.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np


def flat_ranges(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row [S], position [S]): every position of every range ``start[r]:end[r]``, range after range.

    >>> flat_ranges(np.array([4, 9, 20]), np.array([6, 9, 21]))
    (array([0, 0, 2]), array([ 4,  5, 20]))
    """
    length = np.maximum(end - start, 0)
    row = np.repeat(np.arange(len(length)), length)
    return row, np.arange(len(row)) + np.repeat(start - (np.cumsum(length) - length), length)


def blocks_of_users(length: np.ndarray, events: int) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of runs of users with about ``events`` events together, at least one user each. length [U].

    >>> list(blocks_of_users(np.array([3, 3, 9, 1]), 6))
    [(0, 1), (1, 2), (2, 4)]
    """
    block = np.cumsum(length) // max(events, 1)
    bounds = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(length)]
    yield from pairwise(bounds)


@dataclass(frozen=True)
class Cases:
    """Evaluation cases, as positions in the flat arrays of the data.

    user [C] int64 · the history of case c is the complete range ``start[c]:end[c]`` (start, end [C] int64; batches cut
    it to the most recent ``max_length``) · the targets of case c are ``targets[target_offsets[c]:target_offsets[c+1]]``
    (target_offsets [C+1] int64, targets [T] int32, target_positions [T] int64) · candidates [C, K] int32: negatives
    that a sampled protocol ranks the target among, the target not included; None where the whole catalogue is ranked.
    """

    user: np.ndarray
    start: np.ndarray
    end: np.ndarray
    target_offsets: np.ndarray
    targets: np.ndarray
    target_positions: np.ndarray
    candidates: np.ndarray | None = None

    @classmethod
    def single(cls, items: np.ndarray, user: np.ndarray, start: np.ndarray, target_position: np.ndarray) -> Cases:
        """One target a case; the history is everything from ``start`` up to it."""
        return cls(
            user=user.astype(np.int64),
            start=start.astype(np.int64),
            end=target_position.astype(np.int64),
            target_offsets=np.arange(len(user) + 1, dtype=np.int64),
            targets=np.asarray(items[target_position], dtype=np.int32),
            target_positions=target_position.astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.user)

    @property
    def n_targets(self) -> np.ndarray:
        """[C] how many targets each case has."""
        return np.diff(self.target_offsets)

    def targets_of(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(row [t], index [t]) of the targets of the chosen cases: index into ``targets``, row into ``chosen``."""
        return flat_ranges(self.target_offsets[chosen], self.target_offsets[chosen + 1])

    def select(self, chosen: np.ndarray) -> Cases:
        """The chosen cases (indices [c]), in that order."""
        _, index = self.targets_of(chosen)
        offsets = np.concatenate([[0], np.cumsum(self.n_targets[chosen])]).astype(np.int64)
        return Cases(
            user=self.user[chosen],
            start=self.start[chosen],
            end=self.end[chosen],
            target_offsets=offsets,
            targets=self.targets[index],
            target_positions=self.target_positions[index],
            candidates=None if self.candidates is None else self.candidates[chosen],
        )

    def keep_targets(self, kept: np.ndarray) -> Cases:
        """Only the targets where ``kept`` [T] is True, and only the cases that still have one. Candidates must not be
        drawn yet."""
        if self.candidates is not None:
            raise ValueError("targets must be chosen before candidates are drawn")
        running = np.concatenate([[0], np.cumsum(kept)])
        remaining = running[self.target_offsets[1:]] - running[self.target_offsets[:-1]]
        case = remaining > 0
        return Cases(
            user=self.user[case],
            start=self.start[case],
            end=self.end[case],
            target_offsets=np.concatenate([[0], np.cumsum(remaining[case])]).astype(np.int64),
            targets=self.targets[kept],
            target_positions=self.target_positions[kept],
        )

    def arrays(self) -> Iterator[np.ndarray]:
        """Every array, in a fixed order (for hashing)."""
        yield from (self.user, self.start, self.end, self.target_offsets, self.targets, self.target_positions)
        if self.candidates is not None:
            yield self.candidates


class SplitParts(NamedTuple):
    """What a protocol makes of data with U users.

    train_start, train_end [U] int64: the training events of user u are the flat positions ``train_start[u]:train_end[u]``. counts: what was
    left out, by reason, for the audit.
    """

    train_start: np.ndarray
    train_end: np.ndarray
    validation: Cases
    test: Cases
    counts: dict[str, int]
