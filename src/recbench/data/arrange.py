"""Cleaned events under their numbers: users, items and behaviours numbered by their raw ids, each user's events in place."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from recbench.core.disk import forget_pages
from recbench.core.errors import UserError
from recbench.data.events import raw_ids
from recbench.data.kept import Kept
from recbench.data.parts import Parts
from recbench.data.schema import RawData

#: Part of the definition of every data set: another key would give other ids, and so other initial embeddings.
ID_KEY = b"recbench ids 1"
#: Events of a mapped array that are written to before its pages are let go.
STRETCH = 1 << 24
NO_REVIEWS = "data.keep=[reviews] asks for reviews, but these data have none; leave them out of data.keep"


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
    kept: Kept = field(default_factory=Kept)


def arrange(parts: Parts, raw: RawData, steps: list[dict[str, Any]], keep: Sequence[str] = ()) -> Cleaned:
    """Number users, items and behaviours, and put the users, whose events already stand together, in their new order.

    keep: as ``data.keep``. Raises UserError for reviews that the data do not have.
    """
    if "reviews" in keep and "review" not in pq.read_schema(raw.interactions).names:
        raise UserError(NO_REVIEWS)
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
    kinds |= {"ratings": np.float32} if "ratings" in keep else {}
    kinds |= {"rows": np.int64} if "reviews" in keep else {}
    arrays = {name: parts.array(name, n_events, kind) for name, kind in kinds.items()}
    for events in parts.each():
        place = offsets[user_number[events.user]] + _place_in_run(events.user)
        _put(arrays["items"], place, item_number[events.item] + 1)
        if "timestamps" in arrays:
            _put(arrays["timestamps"], place, events.time // raw.ticks_per_second)
        if "behaviours" in arrays:
            assert events.behaviour is not None
            _put(arrays["behaviours"], place, behaviour_number[events.behaviour])
        if "sessions" in arrays:
            assert events.session is not None
            _put(arrays["sessions"], place, _sessions(events.session, events.user))
        if "parts" in arrays:
            assert events.part is not None
            _put(arrays["parts"], place, events.part)
        if "ratings" in arrays:
            assert events.rating is not None
            _put(arrays["ratings"], place, events.rating)
        if "rows" in arrays:
            _put(arrays["rows"], place, events.row)
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
        kept=Kept(arrays.get("ratings"), _reviews(raw, arrays["rows"]) if "rows" in arrays else None),
    )


def _put(array: np.ndarray, place: np.ndarray, values: np.ndarray) -> None:
    """Write values [N] at their places; into a mapped file one stretch after the other, so that no more of it stands in memory."""
    if not isinstance(array, np.memmap):
        array[place] = values
        return
    for first in range(0, len(array), STRETCH):
        here = np.flatnonzero((place >= first) & (place < first + STRETCH))
        array[place[here]] = values[here]
        forget_pages(array)


def _reviews(raw: RawData, rows: np.ndarray) -> pl.Series:
    """[N] the reviews in these rows of the spool. Raises UserError if there is none among them."""
    found = raw_ids(raw.interactions, "review", np.asarray(rows))[1]
    if found.null_count() == len(found):
        raise UserError(NO_REVIEWS)
    return found


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
