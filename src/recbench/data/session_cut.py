"""Where one session of a user ends and the next begins."""

from __future__ import annotations

import numpy as np


def gap_sessions(user: np.ndarray, time: np.ndarray, longest_pause: int) -> np.ndarray:
    """[N] uint32, running number of each event's session, from 1: a new one starts with every user and after every pause
    longer than ``longest_pause``.

    user, time [N]: sorted by user, then time; ``longest_pause`` in the units of ``time``. A pause of exactly that length
    does not end a session.

    >>> gap_sessions(np.array([7, 7, 7, 8]), np.array([0, 30, 61, 62]), 30).tolist()
    [1, 1, 2, 3]
    """
    starts = np.ones(len(user), bool)
    starts[1:] = (user[1:] != user[:-1]) | (np.diff(time) > longest_pause)
    return np.cumsum(starts, dtype=np.uint32)


def session_ranges(offsets: np.ndarray, sessions: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(user [S], start [S], end [S]): the events of each session stand at ``start:end``; S sessions in order of position.

    offsets [U+1]: the users' events. sessions [N]: number of each event's session within its user; None: a user is one
    session. Users without events have none.

    >>> session_ranges(np.array([0, 3, 3, 4]), np.array([0, 0, 1, 0]))
    (array([0, 0, 2]), array([0, 2, 3]), array([2, 3, 4]))
    """
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    starts = np.ones(len(user), bool)
    starts[1:] = user[1:] != user[:-1]
    if sessions is not None:
        starts[1:] |= sessions[1:] != sessions[:-1]
    start = np.flatnonzero(starts)
    return user[start], start, np.append(start[1:], len(user))
