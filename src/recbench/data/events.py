"""Spooled rows as integer columns: the form in which the cleaning can hold a hundred million of them.

Strings become numbers by the rank of their 64-bit hash, so that they never stand in memory together; those of the ids
that survive are read again at the end. Two different ids would have to share a hash to be taken for one: with ten
million ids, the chance that any two do is one in 400,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from recbench.data.schema import RawData

#: Rows of the spool read at a time.
BATCH_ROWS = 1 << 20
#: Columns of the spool that are read as they are.
PLAIN: dict[str, type[pl.DataType]] = {"timestamp": pl.Int64, "rating": pl.Float32, "part": pl.Int8}


@dataclass
class Events:
    """Columns of equal length [N]. user, item: codes from 0, uint32. time: int64 ticks. row: position in the spool.

    rating: float32, NaN where missing. part: int8, see ``recbench.data.given_parts``. behaviour, session: codes from 1, uint32, 0 where missing.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    row: np.ndarray
    rating: np.ndarray | None = None
    behaviour: np.ndarray | None = None
    session: np.ndarray | None = None
    part: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.user)

    def take(self, chosen: np.ndarray) -> None:
        """Keep, in place, the events of a mask or of an array of positions, in that order."""
        if chosen.dtype == bool and chosen.all():
            return
        for column in fields(self):
            values = getattr(self, column.name)
            if values is not None:
                setattr(self, column.name, values[chosen])


def read_events(raw: RawData) -> Events:
    """All rows of the spool, in file order."""
    present = pq.read_schema(raw.interactions).names
    plain = {name: kind for name, kind in PLAIN.items() if name in present}
    coded = [name for name in ("user", "item", "behaviour", "session") if name in present]
    parts: dict[str, list[pl.Series]] = {name: [] for name in (*plain, *coded)}
    missing: dict[str, list[pl.Series]] = {name: [] for name in coded}
    for batch in batches(raw.interactions, [*plain, *coded]):
        for name in plain:
            parts[name].append(batch[name].cast(plain[name]))
        for name in coded:
            parts[name].append(batch[name].hash())
            missing[name].append(batch[name].is_null())
    columns = {name: _concat(parts.pop(name), kind).to_numpy() for name, kind in plain.items()}
    for name in coded:
        # Dense ranks count from 1; users and items, of which none is missing, count from 0.
        codes = _concat(parts.pop(name), pl.UInt64).rank("dense").cast(pl.UInt32).to_numpy(writable=True)
        codes[_concat(missing.pop(name), pl.Boolean).to_numpy()] = 0
        columns[name] = codes - np.uint32(1) if name in ("user", "item") else codes
    n = len(columns["user"])
    return Events(
        user=columns["user"],
        item=columns["item"],
        time=columns["timestamp"],
        row=np.arange(n, dtype=np.uint32 if n < 2**32 else np.int64),
        rating=columns.get("rating"),
        behaviour=columns.get("behaviour"),
        session=columns.get("session"),
        part=columns.get("part"),
    )


def raw_ids(interactions: Path, column: str, row_of: np.ndarray) -> tuple[np.ndarray, pl.Series]:
    """The codes that occur, ascending, and the strings they stand for; ``row_of`` [codes]: a row that has the code, -1 where none has."""
    present = np.flatnonzero(row_of >= 0)
    order = np.argsort(row_of[present])
    wanted = row_of[present][order]
    found, first = [], 0
    for batch in batches(interactions, [column]):
        begin, end = np.searchsorted(wanted, (first, first + batch.height))
        found.append(batch[column].gather(wanted[begin:end] - first))
        first += batch.height
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    return present, _concat(found, pl.String).gather(position)


def batches(path: Path, columns: list[str]) -> Iterator[pl.DataFrame]:
    """The columns of the spool, some rows at a time.

    One call of pyarrow's for the whole file would keep all that it has read until its end, so each call is for a few groups of rows.
    """
    with pq.ParquetFile(path) as file:
        few, rows = [], 0
        for number in range(file.num_row_groups):
            few.append(number)
            rows += file.metadata.row_group(number).num_rows
            if rows >= BATCH_ROWS or number == file.num_row_groups - 1:
                for batch in file.iter_batches(BATCH_ROWS, row_groups=few, columns=columns):
                    yield pl.DataFrame(pl.from_arrow(batch))
                few, rows = [], 0


def _concat(parts: list[pl.Series], kind: type[pl.DataType]) -> pl.Series:
    return pl.concat([pl.Series([], dtype=kind), *(part.rename("") for part in parts)])
