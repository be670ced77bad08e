"""``protocol=leave_last_k protocol.k=3``: the last k events of a user are the test, as one set of targets, and the k before them validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbench.models import Cases, PreparedData, ProtocolConfig, SplitParts, UserError


@dataclass
class LeaveLastKConfig(ProtocolConfig):
    """Users with fewer than 2 k + 1 events only train."""

    name: str = "leave_last_k"
    k: int = 3

    def validate(self) -> None:
        """Raise UserError for a k that makes no sense."""
        super().validate()
        if self.k < 1:
            raise UserError(f"protocol.k must be at least 1, not {self.k}")

    def identity(self, seen_items: str) -> str:
        """Stands beside every number; two numbers share a table only if theirs are equal, so every choice is in it."""
        return f"leave_last_{self.k}-full-{seen_items}-v1"

    def parts(self, data: PreparedData) -> SplitParts:
        """Ranges over the flat arrays of the data: the events of user u lie at ``data.offsets[u] : data.offsets[u + 1]``."""
        start, end = np.asarray(data.offsets[:-1]), np.asarray(data.offsets[1:])
        enough = end - start > 2 * self.k
        user = np.flatnonzero(enough)
        return SplitParts(
            train_start=start.copy(),
            train_end=np.where(enough, end - 2 * self.k, end),
            validation=self._cases(data, user, start[user], end[user] - 2 * self.k),
            test=self._cases(data, user, start[user], end[user] - self.k),
            counts={"users_with_too_few_events": int((~enough).sum())},
        )

    def _cases(self, data: PreparedData, user: np.ndarray, start: np.ndarray, first: np.ndarray) -> Cases:
        """One case a user: the history is everything before the position ``first``, the targets are the k events from there on."""
        positions = (first[:, None] + np.arange(self.k)).ravel()
        return Cases(
            user=user.astype(np.int64),
            start=start.astype(np.int64),
            end=first.astype(np.int64),
            target_offsets=np.arange(len(user) + 1, dtype=np.int64) * self.k,
            targets=np.asarray(data.items[positions], dtype=np.int32),
            target_positions=positions.astype(np.int64),
        )
