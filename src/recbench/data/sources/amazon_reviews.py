"""Rows of Amazon review files, JSON lines or CSV, into the spool.

A block of lines goes through the parser of Polars, which knows the wanted fields only. A block that has anything wrong
with it is read again line by line, slowly, so that the message or the count names the line.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import orjson
import polars as pl

from recbench.core.errors import UserError
from recbench.data.schema import LATEST_SECOND
from recbench.data.sources.amazon_releases import Fields
from recbench.data.sources.raw_lines import BadRows, line_blocks
from recbench.data.sources.spool import Spool

COLUMNS: dict[str, type[pl.DataType]] = {
    "user": pl.String,
    "item": pl.String,
    "timestamp": pl.Int64,
    "rating": pl.Float32,
}
#: What a reader wrote: read only if it is to be kept, and joined into ``review``.
WRITTEN: dict[str, type[pl.DataType]] = {"headline": pl.String, "review": pl.String}


class RowFormat(Protocol):
    """How lines of a file become rows."""

    def block(self, lines: bytes) -> pl.DataFrame:
        """COLUMNS of a block. Raises polars.exceptions.PolarsError at anything unexpected."""

    def line(self, line: bytes) -> dict[str, Any] | None:
        """COLUMNS of one line as they stand in the file, None if the line cannot be read at all."""


class JsonLines:
    def __init__(self, fields: Fields, columns: dict[str, type[pl.DataType]]) -> None:
        self._names = {name: getattr(fields, name) for name in columns}
        self._schema = {self._names[name]: kind for name, kind in columns.items()}
        self._select = [pl.col(raw).alias(name) for name, raw in self._names.items()]

    def block(self, lines: bytes) -> pl.DataFrame:
        return pl.read_ndjson(lines, schema=self._schema).select(self._select)

    def line(self, line: bytes) -> dict[str, Any] | None:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            try:
                row = json.loads(line)  # knows NaN and Infinity, which are not JSON but are written all the same
            except (ValueError, RecursionError):  # brackets within brackets, thousands deep
                return None
        return {name: row.get(raw) for name, raw in self._names.items()} if isinstance(row, dict) else None


class CsvLines:
    def __init__(self, fields: Fields, path: Path, header: bytes) -> None:
        try:
            self._header = next(csv.reader([header.decode("utf-8-sig", "replace")]))
        except csv.Error as error:
            raise UserError(f"{path}: the first line does not name columns ({error})") from error
        self._names = {name: getattr(fields, name) for name in COLUMNS}
        missing = [raw for raw in self._names.values() if raw not in self._header]
        if missing:
            raise UserError(f"{path} has no column {', '.join(missing)}; it has: {', '.join(self._header)}")
        self._overrides = {raw: COLUMNS.get(name, pl.String) for name, raw in self._names.items()}
        self._select = [pl.col(raw).alias(name) for name, raw in self._names.items()]

    def block(self, lines: bytes) -> pl.DataFrame:
        schema = {name: self._overrides.get(name, pl.String) for name in self._header}
        return pl.read_csv(lines, has_header=False, schema=schema).select(self._select)

    def line(self, line: bytes) -> dict[str, Any] | None:
        try:
            values = next(csv.reader([line.decode("utf-8", "replace")]))
        except csv.Error:  # a field longer than csv takes
            return None
        if len(values) != len(self._header):
            return None
        row = dict(zip(self._header, values, strict=True))
        return {name: row[raw] for name, raw in self._names.items()}


def spool_reviews(paths: list[Path], fields: Fields, to: Path, bad_rows: str, reviews: bool = False) -> dict[str, int]:
    """Write the rows of the files, one after the other, to a Parquet file; the counts of rows read and rejected.

    reviews: with a column ``review``, the headline and the text of each.
    """
    bad = BadRows(bad_rows)
    n_read = 0
    with Spool(to, (*COLUMNS, "review") if reviews else tuple(COLUMNS)) as spool:
        for path in paths:
            file = ReviewFile(path, fields, bad, {**COLUMNS, **WRITTEN} if reviews else COLUMNS)
            for frame in file.frames():
                spool.write(_joined(frame) if reviews else frame)
            n_read += file.n_read
    return {"rows_read": n_read, **bad.counts}


def _joined(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with what was written in one column: the headline, a full stop, the text; null where there is neither."""
    said = [
        pl.when(part.str.len_bytes() > 0).then(part) for part in (pl.col(name).str.strip_chars() for name in WRITTEN)
    ]
    joined = pl.concat_str(said, separator=". ", ignore_nulls=True)
    return frame.with_columns(review=pl.when(joined.str.len_bytes() > 0).then(joined))


class ReviewFile:
    """One file being read; ``n_read`` counts its rows, good or bad."""

    def __init__(self, path: Path, fields: Fields, bad: BadRows, columns: dict[str, type[pl.DataType]]) -> None:
        self.path, self.fields, self.bad, self.columns = path, fields, bad, columns
        self.latest = LATEST_SECOND * fields.ticks_per_second
        self.rows: RowFormat = JsonLines(fields, columns)
        self.n_read = 0

    def frames(self) -> Iterator[pl.DataFrame]:
        """COLUMNS of the good rows, block by block."""
        is_csv = ".csv" in self.path.suffixes
        for first, block in line_blocks(self.path):
            if is_csv and first == 1:
                header, _, block = block.partition(b"\n")
                self.rows, first = CsvLines(self.fields, self.path, header.rstrip(b"\r")), 2
            if block.strip():
                frame = self._whole_block(block)
                yield self._line_by_line(block, first) if frame is None else frame

    def _whole_block(self, block: bytes) -> pl.DataFrame | None:
        """The rows of a block in which every row is good, else None."""
        try:
            frame = self.rows.block(block)
        except pl.exceptions.PolarsError:
            return None
        good = pl.all_horizontal(pl.col("user", "item").str.len_bytes() > 0, pl.col("timestamp").abs() < self.latest)
        if not frame.select(good.fill_null(False).all()).item():
            return None
        self.n_read += frame.height
        return frame

    def _line_by_line(self, block: bytes, first: int) -> pl.DataFrame:
        good: dict[str, list[Any]] = {name: [] for name in self.columns}
        for number, line in enumerate(block.split(b"\n"), start=first):
            if not line.strip():
                continue
            self.n_read += 1
            row = self.rows.line(line)
            problem = "unreadable line" if row is None else check_row(row, self.latest)
            if row is None or problem:
                self.bad.add(self.path, number, problem)
                continue
            for name in self.columns:
                value = row[name]
                good[name].append(value if name not in WRITTEN or isinstance(value, str) else None)
        return pl.DataFrame(good, schema=self.columns)


def check_row(row: dict[str, Any], latest: int) -> str:
    """Bring the values of a row to their types, in place; the reason if it cannot be used, else an empty string.

    ``latest``: timestamps lie below that.
    """
    for name in ("user", "item"):
        value = row[name]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value:
            return f"no {name}"
        row[name] = value
    stamp = _number(row["timestamp"])
    if stamp is None or not math.isfinite(stamp) or abs(stamp) >= latest:
        return "no timestamp" if row["timestamp"] in (None, "") else f"no usable timestamp: {row['timestamp']!r}"
    row["timestamp"] = int(stamp)
    row["rating"] = _number(row["rating"])
    return ""


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return value if isinstance(value, int) else float(value)
    except ValueError:
        return None
