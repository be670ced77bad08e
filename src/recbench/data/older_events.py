"""How much of its user's log was over when a row was shown."""

from __future__ import annotations

import numpy as np


def events_before_rows(owner: np.ndarray, times: np.ndarray, user: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
    """[N] int64: how many of the P events stand before each row by user and time; an event at the row's own time does not.

    owner, times [P]: of the events, user by user, each user's in order of time. user, timestamp [N]: of the rows. Found for all rows at once.

    >>> events_before_rows(np.array([0, 0, 1]), np.array([5, 7, 2]), np.array([0, 0, 1]), np.array([5, 9, 1])).tolist()
    [0, 2, 2]
    """
    # Rows go before events of the same time, so an event at the row's own time is not counted.
    kind = np.r_[np.zeros(len(user), np.int8), np.ones(len(owner), np.int8)]
    order = np.lexsort((kind, np.r_[timestamp, times], np.r_[user, owner]))
    is_event = kind[order] == 1
    ends = np.empty(len(user), np.int64)
    ends[order[~is_event]] = np.cumsum(is_event)[~is_event]
    return ends
