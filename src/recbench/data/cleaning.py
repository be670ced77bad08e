"""From spooled rows to flat integer arrays, in one documented order. Nothing here depends on the source.

1. ``read``        every row that the source found usable
2. ``rating``      rows rated at least ``min_rating`` (rows without a rating go too); only if it is set
3. ``duplicates``  events equal in user, item, timestamp, behaviour and session: the first in the file stays. Without a
                   clock a repetition cannot be told from a copy, so nothing is dropped
4. ``sessions``    with ``session_gap``, a user's events are cut into sessions at longer pauses than that; none is dropped
5. ``repeats``     with ``repeats=first``, only the earliest event of each (user, item)
6. ``k_core``      users and items with fewer than k events go, again and again until none is left; not from parts that others made
7. ids             by a hash of the raw id, so that a number tells nothing about time or popularity
8. time order      by user, then given part, if there is one, then time; events of equal time keep the order of the file, or
                   stand in one drawn with ``shuffle_ties``

Counts of rows, users and items are kept after each of the steps 1 to 6 that drop events. The sort of step 8 is done before step 3, which
it makes cheap; later steps only drop events or move users as a whole, so the outcome is that of the order above. A long log is worked on in
parts by user (``recbench.data.parts``), in memory that does not grow with it.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from recbench.core.errors import UserError
from recbench.data.events import Events, raw_ids
from recbench.data.parts import Parts, read_parts
from recbench.data.schema import DataConfig, RawData
from recbench.data.session_cut import gap_sessions

log = logging.getLogger(__name__)

#: What to do when a step leaves nothing; the other steps cannot empty what they get.
ADVICE = {
    "read": "the raw files hold no usable row",
    "rating": "lower data.min_rating, or set it to null",
    "k_core": "lower data.k_core, or set it to 0",
}

#: Part of the definition of every data set: another key would give other ids, and so other initial embeddings.
ID_KEY = b"recbench ids 1"


@dataclass
class Cleaned:
    """N events by user and time, and the counts after each step.

    items int32 [N] in 1..I, offsets int64 [U+1], timestamps int64 [N] in seconds or None, behaviours int8 [N] or None,
    sessions int32 [N] or None; parts int8 [N] or None, ascending within a user;
    user_ids [U] and item_ids [I] are the raw ids in the order of the numbers.
    """

    items: np.ndarray
    offsets: np.ndarray
    timestamps: np.ndarray | None
    behaviours: np.ndarray | None
    sessions: np.ndarray | None
    behaviour_names: list[str]
    user_ids: pl.Series
    item_ids: pl.Series
    steps: list[dict[str, Any]]
    parts: np.ndarray | None = None


def clean(raw: RawData, config: DataConfig) -> Cleaned:
    """Apply the steps above. Raises UserError, with the counts after each step, if nothing is left."""
    parts = read_parts(raw)
    tally = _Tally(parts.n_items)
    if config.min_rating is not None and parts.n_users and not parts.has_ratings:
        raise UserError(
            f"data.min_rating={config.min_rating:g} asks for ratings, but these data have none; set it to null"
        )
    if config.shuffle_ties is not None and not raw.has_timestamps:
        raise UserError(
            f"data.shuffle_ties={config.shuffle_ties} needs timestamps and these data have none; set it to null"
        )
    if config.session_gap is not None and not raw.has_timestamps:
        raise UserError(f"data.session_gap={config.session_gap} needs timestamps and these data have none")
    for events in parts.each(change=True):
        _clean_part(events, raw, config, tally)
    steps = tally.steps()
    if config.k_core > 1 and raw.given_parts:
        log.info("the given parts are used as they are: data.k_core=%d does not filter them", config.k_core)
    elif config.k_core > 1:
        keep_core(parts, config.k_core)
        before, last = steps[-1]["rows"], _Tally(parts.n_items)
        for events in parts.each():
            last.add("k_core", events)
        steps = last.steps(steps)
        share = steps[-1]["rows"] / before
        if share < 1 / 2:
            log.warning(
                "the %d-core keeps only %.0f %% of the rows; data.k_core=0 keeps all", config.k_core, 100 * share
            )
    return _arrange(parts, raw, steps)


def _clean_part(events: Events, raw: RawData, config: DataConfig, tally: _Tally) -> None:
    """Steps 1 to 5 for the events of some users."""
    tally.add("read", events)
    if config.min_rating is not None:
        assert events.rating is not None or not len(events)
        events.take(events.rating >= config.min_rating if events.rating is not None else np.empty(0, bool))
        tally.add("rating", events)
    events.rating = None
    if len(events):
        events.take(_by_user_and_time(events, raw.has_timestamps))
    if raw.has_timestamps:
        if len(events):
            events.take(_first_of_equal(events))
        tally.add("duplicates", events)
    if config.shuffle_ties is not None and len(events):
        part = () if events.part is None else (events.part,)
        events.take(np.lexsort((_drawn(events.row, config.shuffle_ties), events.time, *part, events.user)))
    if config.session_gap is not None:
        events.session = gap_sessions(events.user, events.time, config.session_gap * raw.ticks_per_second)
    if config.repeats == "first":
        pairs = events.user.astype(np.uint64) << np.uint64(32) | events.item
        events.take(pl.Series(pairs).is_first_distinct().to_numpy())
        tally.add("repeats", events)


def keep_core(parts: Parts, k: int) -> None:
    """Reduce to the k-core, in place: the largest part in which every user and every item has k events."""
    n_events = -1
    while True:
        n_items = np.zeros(parts.n_items, np.int64)
        for events in parts.each():
            n_items += np.bincount(events.item, minlength=parts.n_items)
        if n_events == (n_events := int(n_items.sum())):
            return
        for events in parts.each(change=True):
            events.take((n_items >= k)[events.item])
            if len(events):
                user = events.user - events.user.min()
                events.take((np.bincount(user) >= k)[user])


@dataclass
class _Tally:
    """Rows, users and items that are left after each step, added up part by part."""

    n_items: int
    rows: dict[str, int] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)
    items: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, step: str, events: Events) -> None:
        self.rows[step] = self.rows.get(step, 0) + len(events)
        user = events.user - events.user.min() if len(events) else events.user
        self.users[step] = self.users.get(step, 0) + int(np.count_nonzero(np.bincount(user)))
        met = self.items.setdefault(step, np.zeros(self.n_items, bool))
        met[events.item] = True

    def steps(self, earlier: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
        """One entry a step, after those of earlier. Raises UserError at the first that leaves nothing."""
        steps = list(earlier or [])
        for step, rows in self.rows.items():
            items = int(np.count_nonzero(self.items[step]))
            steps.append({"step": step, "rows": rows, "users": self.users[step], "items": items})
            if not rows:
                told = "; ".join(
                    f"{s['step']}: {s['rows']:,} rows, {s['users']:,} users, {s['items']:,} items" for s in steps
                )
                raise UserError(f"no interaction is left after the step '{step}' ({told}); {ADVICE[step]}")
        return steps


def _by_user_and_time(events: Events, has_timestamps: bool) -> np.ndarray:
    """Positions [N] that sort by user, then given part, then time, then row."""
    if events.part is not None:
        return np.lexsort((events.time, events.part, events.user) if has_timestamps else (events.part, events.user))
    if not has_timestamps:
        return np.argsort(events.user, kind="stable")
    first = int(events.time.min())
    span = int(events.time.max()) - first + 1
    if (int(events.user.max()) + 1) * span >= 2**63:
        return np.lexsort((events.time, events.user))
    # One number for both sorts twice as fast as two columns.
    return np.argsort(events.user * np.int64(span) + (events.time - first), kind="stable")


def _drawn(row: np.ndarray, seed: int) -> np.ndarray:
    """A random number [N] for each row of the file, the same however the log is cut into parts: SplitMix64 of the row and the seed."""
    mixed = row.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed * 0xD1342543DE82EF95 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def _first_of_equal(events: Events) -> np.ndarray:
    """Mask [N]: False at copies of an event. Only events that share user and time with a neighbour can be copies."""
    follows = (events.user[1:] == events.user[:-1]) & (events.time[1:] == events.time[:-1])
    if events.part is not None:
        follows &= events.part[1:] == events.part[:-1]
    tied = np.flatnonzero(np.r_[follows, False] | np.r_[False, follows])
    run = np.cumsum(~np.r_[False, follows])[tied]
    columns = {"run": run, "item": events.item[tied]}
    columns |= {n: c[tied] for n in ("behaviour", "session") if (c := getattr(events, n)) is not None}
    mask = np.ones(len(events), bool)
    mask[tied] = pl.DataFrame(columns).select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    return mask


def _arrange(parts: Parts, raw: RawData, steps: list[dict[str, Any]]) -> Cleaned:
    """Number users, items and behaviours, and put the users, whose events already stand together, in their new order."""
    row_of = {"user": np.full(parts.n_users, -1, np.int64), "item": np.full(parts.n_items, -1, np.int64)}
    behaviour_row: dict[int, int] = {}
    length_of, with_sessions = np.zeros(parts.n_users, np.int64), False
    for events in parts.each():
        row_of["user"][events.user], row_of["item"][events.item] = events.row, events.row
        if len(events):
            first = int(events.user.min())
            counted = np.bincount(events.user - first)
            length_of[first : first + len(counted)] += counted
        if events.behaviour is not None:
            codes, where = np.unique(events.behaviour, return_index=True)
            behaviour_row |= dict(zip(codes.tolist(), events.row[where].tolist(), strict=True))
        with_sessions |= events.session is not None and bool(events.session.any())
    user_number, user_ids = _number(row_of["user"], "user", raw)
    item_number, item_ids = _number(row_of["item"], "item", raw)
    behaviour_number, behaviour_names = _behaviours(behaviour_row, raw)
    n_events, present = int(length_of.sum()), user_number >= 0
    lengths = np.zeros(len(user_ids), np.int64)
    lengths[user_number[present]] = length_of[present]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    kinds: dict[str, type[np.generic]] = {"items": np.int32}
    kinds |= {"timestamps": np.int64} if raw.has_timestamps else {}
    kinds |= {"behaviours": np.int8} if behaviour_names else {}
    kinds |= {"sessions": np.int32} if with_sessions else {}
    kinds |= {"parts": np.int8} if raw.given_parts else {}
    arrays = {name: parts.array(name, n_events, kind) for name, kind in kinds.items()}
    for events in parts.each():
        place = offsets[user_number[events.user]] + _place_in_run(events.user)
        arrays["items"][place] = item_number[events.item] + 1
        if "timestamps" in arrays:
            arrays["timestamps"][place] = events.time // raw.ticks_per_second
        if "behaviours" in arrays:
            assert events.behaviour is not None
            arrays["behaviours"][place] = behaviour_number[events.behaviour]
        if "sessions" in arrays:
            assert events.session is not None
            arrays["sessions"][place] = _sessions(events.session, events.user)
        if "parts" in arrays:
            assert events.part is not None
            arrays["parts"][place] = events.part
        arrays = {name: parts.written(array) for name, array in arrays.items()}
    return Cleaned(
        items=arrays["items"],
        offsets=offsets,
        timestamps=arrays.get("timestamps"),
        behaviours=arrays.get("behaviours"),
        sessions=arrays.get("sessions"),
        behaviour_names=behaviour_names,
        user_ids=user_ids,
        item_ids=item_ids,
        steps=steps,
        parts=arrays.get("parts"),
    )


def _place_in_run(user: np.ndarray) -> np.ndarray:
    """[N] 0, 1, ... along each run of equal users.

    >>> _place_in_run(np.array([7, 7, 7, 2, 2])).tolist()
    [0, 1, 2, 0, 1]
    """
    place = np.arange(len(user))
    starts = np.r_[True, user[1:] != user[:-1]][: len(user)]
    return place - np.maximum.accumulate(np.where(starts, place, 0))


def _number(row_of: np.ndarray, column: str, raw: RawData) -> tuple[np.ndarray, pl.Series]:
    """New numbers [codes] from 0 by the hash of the raw id, -1 for codes that no event has, and the raw ids in the order of the numbers."""
    present, names = raw_ids(raw.interactions, column, row_of)
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8, key=ID_KEY).digest() for name in names)
    # Big-endian, so that numbers sort as the digests do; should two be equal, the raw id decides.
    hashes = np.frombuffer(digests, ">u8").astype(np.uint64)
    order = pl.DataFrame({"hash": hashes, "name": names}).select(pl.arg_sort_by("hash", "name")).to_series().to_numpy()
    numbers = np.full(len(row_of), -1, np.int64)
    numbers[present[order]] = np.arange(len(order))
    return numbers, names.gather(order)


def _behaviours(row_of_code: dict[int, int], raw: RawData) -> tuple[np.ndarray, list[str]]:
    """Numbers int8 [codes] from 1 in alphabetical order of the names, 0 where unknown; and the names."""
    row_of = np.full(max(row_of_code, default=0) + 1, -1, np.int64)
    for code, row in row_of_code.items():
        row_of[code] = row if code else -1
    if not (row_of >= 0).any():
        return np.zeros(len(row_of), np.int8), []
    present, names = raw_ids(raw.interactions, "behaviour", row_of)
    if len(names) > 127:
        raise UserError(f"{len(names)} different behaviours are too many (at most 127); is it the right column?")
    numbers = np.zeros(len(row_of), np.int8)
    numbers[present] = names.rank("ordinal").to_numpy()
    return numbers, names.sort().to_list()


def _sessions(session: np.ndarray, user: np.ndarray) -> np.ndarray:
    """Number 0.. of each event's session within its user, in time order; an interrupted session counts as two."""
    if not len(session):
        return session.astype(np.int32)
    first_of_user = np.r_[True, user[1:] != user[:-1]]
    running = np.cumsum(first_of_user | np.r_[True, session[1:] != session[:-1]])
    return (running - np.maximum.accumulate(np.where(first_of_user, running, 0))).astype(np.int32)
