"""Which sessions are training, validation and test, and which events are left of them (protocol ``sessions``).

Shapes: S sessions, M events of all of them together; both in order of date.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recbench.core.errors import UserError
from recbench.data.cases import flat_ranges
from recbench.data.protocol import SessionRule
from recbench.data.session_cut import session_ranges

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData

TRAIN, VALIDATION, TEST, LOST = range(4)
DAY_SECONDS = 86_400


@dataclass
class Sessions:
    """Sessions while they are cut down. Everything here is changed in place by ``keep_events``.

    user [S]: whose; time [S]: when its last event was, or its place in order where there is no clock; given_test [S]
    bool: whether the data's own files put it into the test; part [S] · session [M]: of each event, 0..S-1 ascending;
    position [M]: of each event in the arrays of the data; item [M].
    """

    user: np.ndarray
    time: np.ndarray
    given_test: np.ndarray
    part: np.ndarray
    session: np.ndarray
    position: np.ndarray
    item: np.ndarray

    @classmethod
    def of(cls, data: PreparedData, time: np.ndarray | None, given_test: np.ndarray, rule: SessionRule) -> Sessions:
        """All sessions. time [U], given_test [U]: of the users, where a user is a session; time None: by the clock."""
        user, start, end = session_ranges(data.offsets, data.sessions)
        when = np.asarray(data.timestamps[end - 1]) if time is None else time[user]
        if rule.day_dates:
            when = when // DAY_SECONDS * DAY_SECONDS
        order = np.argsort(when, kind="stable")
        session, position = flat_ranges(start[order], end[order])
        part = np.full(len(user), TRAIN, np.int8)
        item = np.asarray(data.items[position])
        return cls(user[order], when[order], given_test[user][order], part, session, position, item)

    def __len__(self) -> int:
        return len(self.user)

    def keep_events(self, kept: np.ndarray) -> tuple[int, int]:
        """Keep the events where ``kept`` [M] is True, then the sessions that have two or more; (events that were asked
        to go, sessions that went with or after them)."""
        events, sessions = int((~kept).sum()), len(self)
        left = np.bincount(self.session[kept], minlength=len(self))
        alive = left >= 2
        kept = kept & alive[self.session]
        self.session = (np.cumsum(alive) - 1)[self.session[kept]]
        self.position, self.item = self.position[kept], self.item[kept]
        self.user, self.time, self.part = self.user[alive], self.time[alive], self.part[alive]
        self.given_test = self.given_test[alive]
        return events, sessions - len(self)

    def keep_sessions(self, kept: np.ndarray) -> None:
        """Keep the sessions where ``kept`` [S] is True."""
        self.keep_events(kept[self.session])

    def keep_frequent(self, least: int, where: np.ndarray, absent: bool = False) -> tuple[int, int]:
        """Keep the items that occur ``least`` times in the sessions of the mask ``where`` [S], and with ``absent`` those that do not occur there;
        as ``keep_events``."""
        counts = np.bincount(self.item[where[self.session]], minlength=int(self.item.max(initial=0)) + 1)
        return self.keep_events((counts[self.item] >= least) | (absent & (counts[self.item] == 0)))

    def known_items(self, where: np.ndarray) -> np.ndarray:
        """Mask over item ids: True where an item occurs in the sessions of the mask ``where`` [S]."""
        return np.bincount(self.item[where[self.session]], minlength=int(self.item.max(initial=0)) + 1) > 0

    def training(self, rule: SessionRule) -> np.ndarray:
        """[S] bool: the sessions that are learned from."""
        return (self.part == TRAIN) | ((self.part == VALIDATION) & rule.fit_on_validation)


def cut_down(sessions: Sessions, rule: SessionRule) -> dict[str, int]:
    """Filter, cut and clean, in the order of the rule; counts of what went.

    Without ``count_over_all`` nothing of validation or test decides what training holds. Raises UserError if every
    session has one event only.
    """
    every = len(sessions)
    counts = {"sessions_of_one_event": sessions.keep_events(np.ones(len(sessions.item), bool))[1]}
    if not len(sessions):
        raise UserError(
            f"all {every:,} sessions of these data have one event only, so nothing follows anything; check the column "
            f"or separator that tells sessions apart, or raise data.session_gap"
        )
    if rule.count_over_all and rule.min_item_count > 1:
        counts |= _rare(sessions.keep_frequent(rule.min_item_count, np.ones(len(sessions), bool)))
    sessions.part = assign_parts(sessions, rule)
    counts["sessions_lost_at_a_border"] = int((sessions.part == LOST).sum())
    sessions.keep_sessions(sessions.part != LOST)
    if not rule.count_over_all and rule.min_item_count > 1:
        counts |= _rare(sessions.keep_frequent(rule.min_item_count, sessions.training(rule), rule.cold_items == "rank"))
    if rule.train_fraction != "1":
        sessions.keep_sessions(~sessions.training(rule) | most_recent(sessions, rule))
    before = np.bincount(sessions.part, minlength=LOST)
    known = sessions.known_items(sessions.training(rule)) | (rule.cold_items == "rank")
    counts["events_with_items_not_in_training"] = sessions.keep_events(known[sessions.item])[0]
    after = np.bincount(sessions.part, minlength=LOST)
    counts["validation_sessions_dropped"] = int(before[VALIDATION] - after[VALIDATION])
    counts["test_sessions_dropped"] = int(before[TEST] - after[TEST])
    return counts


def _rare(gone: tuple[int, int]) -> dict[str, int]:
    return {"events_of_rare_items": gone[0], "sessions_short_without_rare_items": gone[1]}


def assign_parts(sessions: Sessions, rule: SessionRule) -> np.ndarray:
    """[S] TRAIN, VALIDATION, TEST, or LOST: exactly at a border that is strict. A border belongs to the earlier part."""
    part = np.full(len(sessions), TRAIN, np.int8)
    if rule.border == "given":
        part[sessions.given_test] = TEST
    else:
        _cut(part, sessions.time, rule.border, TEST, rule.strict_cuts)
    _cut(part, sessions.time, rule.validation_border, VALIDATION, rule.strict_cuts)
    return part


def _cut(part: np.ndarray, time: np.ndarray, border: str, later: int, strict: bool) -> None:
    """Cut what is still TRAIN in two, in place."""
    rest = part == TRAIN
    if not rest.any():
        return
    at = border_time(time[rest], border)
    part[rest & (time > at)] = later
    if strict:
        part[rest & (time == at)] = LOST


def border_time(time: np.ndarray, border: str) -> int:
    """The latest time of the earlier part: so many days before the last session, or that of the session at the quantile.

    >>> border_time(np.array([0, 86400, 5 * 86400]), "d4") // 86400, border_time(np.arange(10), "q0.8")
    (1, 7)
    """
    if border.startswith("d"):
        return int(time.max()) - int(border[1:]) * DAY_SECONDS
    place = max(int(float(border[1:]) * len(time)) - 1, 0)
    return int(np.partition(time, place)[place])


def most_recent(sessions: Sessions, rule: SessionRule) -> np.ndarray:
    """[S] bool: the latest training sessions that together hold the share ``train_fraction`` of training's cases (proper
    prefixes). The session that crosses the share is kept whole; the published code cuts it."""
    over, _, under = rule.train_fraction.partition("/")
    cases = (np.bincount(sessions.session, minlength=len(sessions)) - 1) * sessions.training(rule)
    later = np.cumsum(cases[::-1])[::-1] - cases
    return later * int(under) < int(over) * cases.sum()
