"""The arrays of prepared data looked through: whether they fit each other, their counts and times, their fingerprint."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.core.disk import forget_pages
from recbench.data.cases import blocks_of_users

if TYPE_CHECKING:
    import polars as pl


#: Events that are checked and counted at once.
EVENTS_AT_ONCE = 1 << 20


def check_arrays(
    items: np.ndarray, offsets: np.ndarray, timestamps: np.ndarray | None, n_items: int, seams: np.ndarray | None
) -> None:
    """Raises ValueError if the arrays of a data set contradict each other."""
    n = len(items)
    if n == 0:
        raise ValueError("no interactions")
    if offsets[0] != 0 or offsets[-1] != n or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets must rise from 0 to the number of interactions, {n}")
    least, most = _range(items)
    if least < 1 or most > n_items:
        raise ValueError(f"item ids must lie in 1..{n_items}, found {least}..{most}")
    if timestamps is not None:
        if len(timestamps) != n:
            raise ValueError(f"{len(timestamps)} timestamps for {n} interactions")
        borders = offsets if seams is None else np.union1d(offsets, seams)
        for first, last in blocks_of_users(np.diff(offsets), EVENTS_AT_ONCE):
            begin, end = int(offsets[first]), int(offsets[last])
            falls = np.diff(timestamps[begin:end]) < 0
            starts = borders[(borders > begin) & (borders < end)]
            falls[starts[(starts > begin) & (starts < end)] - 1 - begin] = False
            forget_pages(timestamps)
            if falls.any():
                raise ValueError("timestamps must not fall within a user")


def statistics_of(arrays: dict[str, np.ndarray], n_items: int, has_timestamps: bool) -> dict[str, Any]:
    """Counts, time range, the share of ties in time and of repeated items: what decides which protocol makes sense."""
    import polars as pl

    items, offsets, timestamps = arrays["items"], arrays["offsets"], arrays["timestamps"]
    n, n_users = len(items), len(offsets) - 1
    distinct = follow = tied = several = last_tied = 0
    for first, last in blocks_of_users(np.diff(offsets), EVENTS_AT_ONCE):
        users = np.repeat(np.arange(first, last, dtype=np.int64), np.diff(offsets[first : last + 1]))
        events = slice(int(offsets[first]), int(offsets[last]))
        distinct += pl.Series(users * (n_items + 1) + items[events]).n_unique()
        same_user, times = users[1:] == users[:-1], timestamps[events]
        follow += int(same_user.sum())
        equal = times[1:] == times[:-1]
        tied += int((same_user & equal).sum())
        ends = (offsets[first + 1 : last + 1] - offsets[first])[np.diff(offsets[first : last + 1]) >= 2]
        several, last_tied = several + len(ends), last_tied + int(equal[ends - 2].sum())
        forget_pages(items)
        forget_pages(timestamps)
    statistics: dict[str, Any] = {
        "n_users": n_users,
        "n_items": n_items,
        "n_interactions": n,
        "has_timestamps": has_timestamps,
        "has_repeats": distinct < n,
        "share_repeats": (n - distinct) / n,
    }
    if has_timestamps:
        first, last = _range(timestamps)
        statistics |= {
            "first_timestamp": first,
            "last_timestamp": last,
            "first_date": _date(first),
            "last_date": _date(last),
            "share_equal_timestamps": float(tied / max(1, follow)),
            "share_last_two_equal": last_tied / several if several else 0.0,
        }
    return statistics


def _range(values: np.ndarray) -> tuple[int, int]:
    """(least, largest) of a long array, some of it at a time."""
    found = []
    for first in range(0, len(values), EVENTS_AT_ONCE):
        block = values[first : first + EVENTS_AT_ONCE]
        found += [int(block.min()), int(block.max())]
        forget_pages(values)
    return min(found), max(found)


def _date(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return "outside the calendar"


def fingerprint_of(arrays: dict[str, np.ndarray], table: pl.DataFrame) -> str:
    """BLAKE2b over the arrays and the item table: equal exactly where the prepared data are equal, on any machine."""
    import orjson

    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        little_endian = np.ascontiguousarray(arrays[name], dtype=arrays[name].dtype.newbyteorder("<"))
        digest.update(f"{name} {len(little_endian)} ".encode())
        for first in range(0, len(little_endian), EVENTS_AT_ONCE):
            digest.update(memoryview(little_endian[first : first + EVENTS_AT_ONCE]).cast("B"))
            forget_pages(little_endian)
    for row in table.iter_rows():
        digest.update(orjson.dumps(row))
    return digest.hexdigest()
