"""Events in parts by user, so that cleaning needs the memory of one part however long the log is.

Up to PART_ROWS rows there is one part, in memory. More are written into files beside the spool, each part with all events of its users in
file order, and read back one at a time; what grows with the whole log is then on disk. What stays in memory is a few numbers a user and an
item. Cut or not, the outcome is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from recbench.core.disk import new_array
from recbench.data.events import PLAIN, Events, batches, read_events
from recbench.data.schema import RawData

#: Rows of a part, about: it takes some 100 bytes a row while it is sorted.
PART_ROWS = 1 << 21

CODED = ("user", "item", "behaviour", "session")


class Parts:
    """Runs of events; those of one user lie in one of them. user codes rise from part to part.

    n_users, n_items: codes of users and items lie below these. has_ratings: whether any event has one.
    """

    def __init__(self, n_parts: int, n_users: int, n_items: int, has_ratings: bool) -> None:
        self.n_parts, self.n_users, self.n_items, self.has_ratings = n_parts, n_users, n_items, has_ratings

    def each(self, change: bool = False) -> Iterator[Events]:
        """One part after the other. change: what was done to one is kept."""
        raise NotImplementedError

    def array(self, name: str, length: int, kind: type[np.generic]) -> np.ndarray:
        """A new array of zeros for something of every event."""
        raise NotImplementedError


class WholeLog(Parts):
    """One part, in memory."""

    def __init__(self, events: Events) -> None:
        n_users, n_items = (
            int(codes.max(initial=-1)) + 1 for codes in (events.user.astype(np.int64), events.item.astype(np.int64))
        )
        rated = events.rating is not None and not bool(np.isnan(events.rating).all())
        super().__init__(1, n_users, n_items, rated)
        self.events = events

    def each(self, change: bool = False) -> Iterator[Events]:
        yield self.events

    def array(self, name: str, length: int, kind: type[np.generic]) -> np.ndarray:
        return np.zeros(length, kind)


class PartsOnDisk(Parts):
    """Each part is a folder with a file a column."""

    def __init__(self, folder: Path, n_parts: int, n_users: int, n_items: int, has_ratings: bool) -> None:
        super().__init__(n_parts, n_users, n_items, has_ratings)
        self.folder = folder

    def each(self, change: bool = False) -> Iterator[Events]:
        for number in range(self.n_parts):
            place = self.folder / str(number)
            names = [f.name for f in fields(Events) if (place / f"{f.name}.npy").is_file()]
            events = Events(**{name: np.load(place / f"{name}.npy", allow_pickle=False) for name in names})
            before = {name: getattr(events, name) for name in names}
            yield events
            if change:
                _store(place, events, before)

    def array(self, name: str, length: int, kind: type[np.generic]) -> np.ndarray:
        return new_array(self.folder / f"{name}.npy", kind, (length,))


def _store(place: Path, events: Events, before: dict[str, np.ndarray]) -> None:
    """Write the columns that are not those of before, and drop those that are gone."""
    for column in fields(Events):
        name, values = column.name, getattr(events, column.name)
        if values is None:
            (place / f"{name}.npy").unlink(missing_ok=True)
        elif values is not before.get(name):
            np.save(place / f"{name}.npy", values)


def read_parts(raw: RawData) -> Parts:
    """All rows of the spool, in as many parts as their number asks for."""
    n_rows = pq.read_metadata(raw.interactions).num_rows
    if n_rows <= PART_ROWS:
        return WholeLog(read_events(raw))
    return _split(raw, raw.interactions.parent / "parts", -(-n_rows // PART_ROWS))


def _split(raw: RawData, folder: Path, n_parts: int) -> PartsOnDisk:
    """Deal the rows out by a hash of their user, and give the ids of the parts their codes."""
    present = pq.read_schema(raw.interactions).names
    plain, coded = [n for n in PLAIN if n in present], [n for n in CODED if n in present]
    for number in range(n_parts):
        (folder / str(number)).mkdir(parents=True)
    known = {"item": np.empty(0, np.uint64), "behaviour": np.empty(0, np.uint64)}
    first, rated = 0, False
    for batch in batches(raw.interactions, [*plain, *coded]):
        columns = {name: batch[name].cast(PLAIN[name]).to_numpy() for name in plain}
        columns |= {name: _hashes(batch[name]) for name in coded}
        columns["row"] = np.arange(first, first + batch.height, dtype=np.int64)
        first += batch.height
        rated |= "rating" in columns and not bool(np.isnan(columns["rating"]).all())
        for name, seen in known.items():
            if name in columns:
                known[name] = np.union1d(seen, columns[name])
        _deal(columns, (columns["user"] % np.uint64(n_parts)).astype(np.int64), n_parts, folder)
    n_users = 0
    for number in range(n_parts):
        n_users += _code(folder / str(number), plain, coded, known, n_users, first)
    return PartsOnDisk(folder, n_parts, n_users, len(known["item"]), rated)


def _hashes(column: pl.Series) -> np.ndarray:
    """[N] uint64, 0 where missing and nowhere else."""
    hashes = column.hash().to_numpy(writable=True)
    np.maximum(hashes, 1, out=hashes)
    hashes[column.is_null().to_numpy()] = 0
    return hashes


def _deal(columns: dict[str, np.ndarray], part: np.ndarray, n_parts: int, folder: Path) -> None:
    """Append each row to the files of its part."""
    order = np.argsort(part, kind="stable")
    bounds = np.searchsorted(part[order], np.arange(n_parts + 1))
    for name, values in columns.items():
        dealt = values[order]
        for number in range(n_parts):
            with (folder / str(number) / f"{name}.bin").open("ab") as file:
                dealt[bounds[number] : bounds[number + 1]].tofile(file)


def _code(
    place: Path, plain: list[str], coded: list[str], known: dict[str, np.ndarray], first_user: int, n_rows: int
) -> int:
    """Turn the hashes of a part into the codes that ``Events`` has; returns how many users it has."""
    read = {name: np.fromfile(place / f"{name}.bin", np.uint64) for name in coded}
    users, user = np.unique(read["user"], return_inverse=True)
    columns = {
        "user": (user + first_user).astype(np.uint32),
        "item": np.searchsorted(known["item"], read["item"]).astype(np.uint32),
        "row": np.fromfile(place / "row.bin", np.int64).astype(np.uint32 if n_rows < 2**32 else np.int64),
    }
    if "behaviour" in read:
        # From 1; 0, the hash of none, stays 0.
        of_known = known["behaviour"][known["behaviour"] > 0]
        codes = np.searchsorted(of_known, read["behaviour"]).astype(np.uint32) + np.uint32(1)
        columns["behaviour"] = np.where(read["behaviour"] > 0, codes, np.uint32(0))
    if "session" in read:
        # Told apart within a user only.
        sessions, session = np.unique(read["session"], return_inverse=True)
        columns["session"] = (session + int(len(sessions) > 0 and sessions[0] > 0)).astype(np.uint32)
    kinds = {"timestamp": ("time", np.int64), "rating": ("rating", np.float32), "part": ("part", np.int8)}
    columns |= {kinds[name][0]: np.fromfile(place / f"{name}.bin", kinds[name][1]) for name in plain}
    for name, values in columns.items():
        np.save(place / f"{name}.npy", values)
    for file in place.glob("*.bin"):
        file.unlink()
    return len(users)
