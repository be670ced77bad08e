"""From spooled rows to flat integer arrays, in one documented order. Nothing here depends on the source.

1. ``read``        every row that the source found usable
2. ``rating``      rows rated at least ``min_rating`` (rows without a rating go too); only if it is set
3. ``duplicates``  events equal in user, item, timestamp, behaviour and session: the first in the file stays. Without a
                   clock a repetition cannot be told from a copy, so nothing is dropped
4. ``sessions``    with ``session_gap``, a user's events are cut into sessions at longer pauses than that; none is dropped
5. ``repeats``     with ``repeats=first``, only the earliest event of each (user, item)
6. ``k_core``      users and items with fewer than k events go, again and again until none is left
7. ids             by a hash of the raw id, so that a number tells nothing about time or popularity
8. time order      by user, then time; events of equal time keep the order of the file

Counts of rows, users and items are kept after each of the steps 1 to 6 that drop events. The sort of step 8 is done before step 3, which
it makes cheap; later steps only drop events or move users as a whole, so the outcome is that of the order above.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from recbench.data.events import Events, raw_ids, read_events
from recbench.data.schema import DataConfig, RawData
from recbench.data.session_cut import gap_sessions
from recbench.errors import UserError

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
    sessions int32 [N] or None; user_ids [U] and item_ids [I] are the raw ids in the order of the numbers.
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


def clean(raw: RawData, config: DataConfig) -> Cleaned:
    """Apply the steps above. Raises UserError, with the counts after each step, if nothing is left."""
    events = read_events(raw)
    steps: list[dict[str, Any]] = []
    _count(events, steps, "read")
    if config.min_rating is not None:
        if events.rating is None or bool(np.isnan(events.rating).all()):
            asked = f"data.min_rating={config.min_rating:g}"
            raise UserError(f"{asked} asks for ratings, but these data have none; set it to null")
        events.take(events.rating >= config.min_rating)
        _count(events, steps, "rating")
    events.rating = None
    events.take(_by_user_and_time(events, raw.has_timestamps))
    if raw.has_timestamps:
        events.take(_first_of_equal(events))
        _count(events, steps, "duplicates")
    if config.session_gap is not None:
        if not raw.has_timestamps:
            raise UserError(f"data.session_gap={config.session_gap} needs timestamps and these data have none")
        events.session = gap_sessions(events.user, events.time, config.session_gap * raw.ticks_per_second)
    if config.repeats == "first":
        pairs = events.user.astype(np.uint64) << np.uint64(32) | events.item
        events.take(pl.Series(pairs).is_first_distinct().to_numpy())
        _count(events, steps, "repeats")
    if config.k_core > 1:
        before = len(events)
        keep_core(events, config.k_core)
        _count(events, steps, "k_core")
        if len(events) < before / 2:
            share = len(events) / before
            log.warning(
                "the %d-core keeps only %.0f %% of the rows; data.k_core=0 keeps all", config.k_core, 100 * share
            )
    return _arrange(events, raw, steps)


def keep_core(events: Events, k: int) -> None:
    """Reduce to the k-core, in place: the largest part in which every user and every item has k events."""
    while len(events):
        before = len(events)
        for name in ("item", "user"):
            column = getattr(events, name)
            events.take((np.bincount(column) >= k)[column])
        if len(events) == before:
            return


def _count(events: Events, steps: list[dict[str, Any]], step: str) -> None:
    users, items = (int(np.count_nonzero(np.bincount(column))) for column in (events.user, events.item))
    steps.append({"step": step, "rows": len(events), "users": users, "items": items})
    if not len(events):
        told = "; ".join(f"{s['step']}: {s['rows']:,} rows, {s['users']:,} users, {s['items']:,} items" for s in steps)
        raise UserError(f"no interaction is left after the step '{step}' ({told}); {ADVICE[step]}")


def _by_user_and_time(events: Events, has_timestamps: bool) -> np.ndarray:
    """Positions [N] that sort by user, then time, then row."""
    if not has_timestamps:
        return np.argsort(events.user, kind="stable")
    first = int(events.time.min())
    span = int(events.time.max()) - first + 1
    if (int(events.user.max()) + 1) * span >= 2**63:
        return np.lexsort((events.time, events.user))
    # One number for both sorts twice as fast as two columns.
    return np.argsort(events.user * np.int64(span) + (events.time - first), kind="stable")


def _first_of_equal(events: Events) -> np.ndarray:
    """Mask [N]: False at copies of an event. Only events that share user and time with a neighbour can be copies."""
    follows = (events.user[1:] == events.user[:-1]) & (events.time[1:] == events.time[:-1])
    tied = np.flatnonzero(np.r_[follows, False] | np.r_[False, follows])
    run = np.cumsum(~np.r_[False, follows])[tied]
    columns = {"run": run, "item": events.item[tied]}
    columns |= {n: c[tied] for n in ("behaviour", "session") if (c := getattr(events, n)) is not None}
    mask = np.ones(len(events), bool)
    mask[tied] = pl.DataFrame(columns).select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    return mask


def _arrange(events: Events, raw: RawData, steps: list[dict[str, Any]]) -> Cleaned:
    """Number users, items and behaviours, and put the users, whose events already stand together, in their new order."""
    user, user_ids = _number(events.user, "user", events, raw)
    item, item_ids = _number(events.item, "item", events, raw)
    lengths = np.bincount(user, minlength=len(user_ids))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    starts = np.empty(len(user_ids), np.int64)
    starts[user[::-1]] = np.arange(len(user))[::-1]
    order = np.repeat(starts - offsets[:-1], lengths) + np.arange(len(user))
    behaviours, behaviour_names = _behaviours(events, raw)
    return Cleaned(
        items=(item[order] + 1).astype(np.int32),
        offsets=offsets,
        timestamps=events.time[order] // raw.ticks_per_second if raw.has_timestamps else None,
        behaviours=behaviours[order] if behaviours is not None else None,
        sessions=_sessions(events.session[order], user[order]) if events.session is not None else None,
        behaviour_names=behaviour_names,
        user_ids=user_ids,
        item_ids=item_ids,
        steps=steps,
    )


def _number(codes: np.ndarray, column: str, events: Events, raw: RawData) -> tuple[np.ndarray, pl.Series]:
    """New numbers [N] from 0 by the hash of the raw id, and the raw ids in the order of the numbers."""
    present, names = raw_ids(raw.interactions, column, codes, events.row)
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8, key=ID_KEY).digest() for name in names)
    # Big-endian, so that numbers sort as the digests do; should two be equal, the raw id decides.
    hashes = np.frombuffer(digests, ">u8").astype(np.uint64)
    order = pl.DataFrame({"hash": hashes, "name": names}).select(pl.arg_sort_by("hash", "name")).to_series().to_numpy()
    numbers = np.zeros(int(present.max()) + 1, np.int64)
    numbers[present[order]] = np.arange(len(order))
    return numbers[codes], names.gather(order)


def _behaviours(events: Events, raw: RawData) -> tuple[np.ndarray | None, list[str]]:
    """Numbers int8 [N] from 1 in alphabetical order of the names, 0 where unknown; and the names."""
    if events.behaviour is None or not events.behaviour.any():
        return None, []
    known = events.behaviour > 0
    present, names = raw_ids(raw.interactions, "behaviour", events.behaviour[known], events.row[known])
    if len(names) > 127:
        raise UserError(f"{len(names)} different behaviours are too many (at most 127); is it the right column?")
    numbers = np.zeros(int(present.max()) + 1, np.int8)
    numbers[present] = names.rank("ordinal").to_numpy()
    return numbers[events.behaviour], names.sort().to_list()


def _sessions(session: np.ndarray, user: np.ndarray) -> np.ndarray | None:
    """Number 0.. of each event's session within its user, in time order; an interrupted session counts as two."""
    if not session.any():
        return None
    first_of_user = np.r_[True, user[1:] != user[:-1]]
    running = np.cumsum(first_of_user | np.r_[True, session[1:] != session[:-1]])
    return (running - np.maximum.accumulate(np.where(first_of_user, running, 0))).astype(np.int32)
