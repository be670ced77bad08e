"""What an event is worth, by its behaviour (``data.rewards``), and what is still to come after it.

    r_l   reward of event l
    G_l   sum over k >= 1 of discount^(k-1) r_{l+k}, over the later training events of the user: the return, future only

Shapes: N events of the data, U users, B kinds of behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from recbench.core.errors import UserError, nearest
from recbench.data.cases import flat_ranges

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData

#: Numbers that a behaviour can have, 0 for an unknown one: they are stored in 7 bits.
MOST_BEHAVIOURS = 128
#: What a behaviour is worth where ``data.rewards`` says nothing.
USUAL: dict[str, float] = {
    **dict.fromkeys(("view", "pv", "click", "impression"), 0.0),
    **dict.fromkeys(("cart", "addtocart", "add_to_cart", "fav", "favorite", "like", "wishlist"), 1.0),
    **dict.fromkeys(("buy", "purchase", "transaction", "order"), 3.0),
}


def rewards_of(data: PreparedData, given: Mapping[str, float]) -> np.ndarray:
    """[B + 1] float64: the reward of each behaviour by its number; that of an unknown one, number 0, is 0.

    given: ``data.rewards``, by name; behaviours that it leaves out are worth 0. Empty: the usual words, such as view, cart and buy. Raises UserError
    for data without behaviours, a name that they do not have, and behaviours that nobody says the worth of.
    """
    if data.behaviours is None:
        raise UserError("these data say nothing of behaviours, so no event has a reward; choose data that do")
    names = list(data.manifest["behaviours"])
    for name in given:
        if name not in names:
            raise UserError(
                f"data.rewards names the behaviour '{name}', which these data do not have; {nearest(name, names)}"
            )
    unknown = [name for name in names if name.lower() not in USUAL]
    if not given and unknown:
        raise UserError(
            f"nobody says what '{unknown[0]}' is worth; set data.rewards={{{unknown[0]}: 1}}, with the other behaviours that count"
        )
    found = [given.get(name, 0.0) if given else USUAL[name.lower()] for name in names]
    return np.array([0.0, *found])


def event_rewards(data: PreparedData, given: Mapping[str, float]) -> np.ndarray:
    """[N] float64: the reward of every event. Errors as ``rewards_of``."""
    return np.asarray(rewards_of(data, given)[data.behaviours])


def returns(reward: np.ndarray, start: np.ndarray, end: np.ndarray, discount: float) -> np.ndarray:
    """G [N] of the events ``start[u]:end[u]`` of each user, 0 for a user's last one and for all others. Events from ``end[u]`` on are not read.

    >>> returns(np.array([9.0, 1.0, 0.0, 3.0, 7.0]), np.array([0]), np.array([4]), 0.5)
    array([1.75, 1.5 , 3.  , 0.  , 0.  ])
    """
    found = np.zeros(len(reward))
    length = end - start
    order = np.argsort(-length, kind="stable")
    users = np.searchsorted(-length[order], -np.arange(1, int(length.max(initial=0)) + 1), side="right")
    for left in range(1, len(users)):  # events that come after, at the users who have as many
        at = end[order[: users[left]]] - 1 - left
        found[at] = reward[at + 1] + discount * found[at + 1]
    return found


def events_left(start: np.ndarray, end: np.ndarray, n: int) -> np.ndarray:
    """[N] int64: how many training events of the user come after each of the n events; -1 for an event that is no training event."""
    found = np.full(n, -1, dtype=np.int64)
    user, place = flat_ranges(start, end)
    found[place] = end[user] - 1 - place
    return found


def quantile_buckets(values: np.ndarray, group: np.ndarray, n_buckets: int) -> np.ndarray:
    """[M] int64 in 0..n_buckets - 1: the quantile of each value among those of its group. Equal values share the middle of their places.

    >>> quantile_buckets(np.array([0.0, 0.0, 5.0, 1.0]), np.array([0, 0, 0, 7]), 10)
    array([3, 3, 8, 5])
    """
    order = np.lexsort((values, group))
    values, group = values[order], group[order]
    first_of_group = np.searchsorted(group, group)
    size = np.searchsorted(group, group, side="right") - first_of_group
    new = (
        np.concatenate([[True], (values[1:] != values[:-1]) | (group[1:] != group[:-1])])
        if len(values)
        else np.empty(0, bool)
    )
    run = np.cumsum(new) - 1
    begin = np.flatnonzero(new)
    middle = (begin + np.diff([*begin, len(values)]) / 2)[run] if len(values) else np.empty(0)
    found = np.empty(len(values), dtype=np.int64)
    found[order] = np.minimum((middle - first_of_group) / np.maximum(size, 1) * n_buckets, n_buckets - 1).astype(
        np.int64
    )
    return found


def merged_groups(left: np.ndarray, least: int) -> np.ndarray:
    """[M] int64: groups of events with like many events left, from the most downwards merged until each has at least ``least`` events.

    >>> merged_groups(np.array([1, 1, 1, 2, 2, 3]), 2)
    array([1, 1, 1, 2, 2, 2])
    """
    counts = np.bincount(left)
    group_of = np.arange(len(counts))
    held, members = 0, []
    for number in range(len(counts) - 1, -1, -1):
        held += int(counts[number])
        members.append(number)
        if held >= least or number == 0:
            group_of[members] = number
            held, members = 0, []
    return group_of[left]
