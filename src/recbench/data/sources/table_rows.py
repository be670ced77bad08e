"""Rows of a table, whatever its format, into the spool: Polars reads batches, bad rows are named or counted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from recbench.core.errors import UserError
from recbench.data.schema import LATEST_SECOND
from recbench.data.sources.raw_lines import BadRows, is_gzip, unpack
from recbench.data.sources.spool import Spool
from recbench.data.sources.table_config import SEPARATORS, check_columns, extension

if TYPE_CHECKING:
    from recbench.data.sources.table_config import TableConfig

BATCH_ROWS = 500_000
#: From this many units since 1970 on, the median timestamp of the first rows cannot be in the coarser unit: it would
#: lie beyond the year 5000.
FINER = (("ns", 10**17), ("us", 10**14), ("ms", 10**11))
#: A millisecond, in units: (multiply by, divide by).
TO_MILLISECONDS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}
ISO_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")


@dataclass
class Table:
    """A file opened for scanning. ``first_line``: the number that a person gives to the first row of data."""

    path: Path
    scan: pl.LazyFrame
    schema: pl.Schema
    first_line: int

    @classmethod
    def open(cls, path: Path, separator: str | None, spool: Path, header: bool = True) -> Table:
        """A gzip file is unpacked into the folder ``spool`` first. Raises UserError for an unknown or broken format.

        header: whether the first line of a text file names the columns; if not, they are called "1", "2" and so on.
        """
        suffix = extension(path)
        if suffix != ".parquet" and suffix not in SEPARATORS:
            raise UserError(f"{path}: data.path must end in .parquet, {', '.join(SEPARATORS)} (text also with .gz)")
        if suffix == ".parquet" and not header:
            raise UserError(f"{path} is a Parquet file, which names its columns; header=false is for text files")
        plain = unpack(path, spool / path.name.removesuffix(".gz")) if is_gzip(path) else path
        try:
            if suffix == ".parquet":
                scan = pl.scan_parquet(plain)
            else:
                # All columns as text: a column of ids must not turn into numbers because its first rows look like it.
                separator = separator or SEPARATORS[suffix]
                scan = pl.scan_csv(plain, separator=separator, has_header=header, infer_schema=False)
            if not header:
                scan = scan.rename({name: str(at) for at, name in enumerate(scan.collect_schema().names(), start=1)})
            return cls(path, scan, scan.collect_schema(), 2 if header and suffix != ".parquet" else 1)
        except pl.exceptions.PolarsError as error:
            raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}")


def spool_rows(table: Table, config: TableConfig, to: Path) -> dict[str, int]:
    """Write the good rows to a Parquet file; the counts of rows read and rejected."""
    check_columns(config.columns, "columns", table.path, table.schema.names())
    wanted = _expressions(table, config)
    bad = BadRows(config.bad_rows)
    n_read = 0
    reason = (
        pl.when(_empty("user")).then(pl.lit("no user"))
        .when(_empty("item")).then(pl.lit("no item"))
        .when(pl.col("timestamp").is_null() & pl.col("raw_timestamp").is_null()).then(pl.lit("no timestamp"))
        .when(pl.col("timestamp").is_null()).then(pl.format("no usable timestamp: {}", "raw_timestamp"))
    )  # fmt: skip
    columns = tuple(name for name in wanted if name != "raw_timestamp")
    # A blank line is no row.
    rows = (
        table.scan.with_row_index("row")
        .select("row", **wanted)
        .filter(~pl.all_horizontal(_empty("user"), _empty("item"), _blank()))
    )
    with Spool(to, columns) as spool:
        try:
            for batch in rows.collect_batches(chunk_size=BATCH_ROWS):
                n_read += batch.height
                judged = batch.with_columns(reason.alias("reason"))
                rejected = judged.filter(pl.col("reason").is_not_null())
                for row, why in rejected.select("row", "reason").iter_rows():
                    bad.add(table.path, row + table.first_line, why)
                spool.write(batch if rejected.is_empty() else judged.filter(pl.col("reason").is_null()))
        except pl.exceptions.PolarsError as error:
            raise unreadable(table.path, error) from error
    return {"rows_read": n_read, **bad.counts}


def _empty(name: str) -> pl.Expr:
    return pl.col(name).is_null() | (pl.col(name) == "")


def _blank() -> pl.Expr:
    return pl.col("raw_timestamp").is_null()


def _expressions(table: Table, config: TableConfig) -> dict[str, pl.Expr]:
    """The columns of the spool, and the timestamp as it stands in the file, for messages."""
    names = config.columns
    text = {"user": names.user or names.session, "item": names.item, "behaviour": names.behaviour}
    if names.user:
        text["session"] = names.session
    wanted = {name: pl.col(column).cast(pl.String) for name, column in text.items() if column}
    if names.rating:
        wanted["rating"] = pl.col(names.rating).cast(pl.Float32, strict=False)
    if names.timestamp:
        wanted["timestamp"] = _milliseconds(table, names.timestamp, config.timestamp_unit)
        wanted["raw_timestamp"] = pl.col(names.timestamp).cast(pl.String)
    else:
        wanted["timestamp"] = pl.lit(0, pl.Int64)
        wanted["raw_timestamp"] = pl.lit(None, pl.String)
    return wanted


def _milliseconds(table: Table, name: str, unit: str) -> pl.Expr:
    """Unix milliseconds as int64; null where the value says no time, or one beyond the year 9999."""
    kind, column = table.schema[name], pl.col(name)
    if kind.is_temporal():
        return column.cast(pl.Datetime("ms")).dt.epoch("ms")
    whole, fraction = column.cast(pl.Int64, strict=False), column.cast(pl.Float64, strict=False)
    if unit == "auto":
        unit = _guess_unit(table, fraction)
    if unit == "iso":
        text = column.cast(pl.String).str.strip_chars().str.replace(" ", "T", literal=True)
        text = text.str.replace("T?(Z|UTC)$", "+00:00")
        times = [text.str.to_datetime(form, strict=False, time_unit="ms").dt.epoch("ms") for form in ISO_FORMATS]
        return pl.coalesce(times)
    times_by, over = TO_MILLISECONDS[unit]
    rounded = (fraction * times_by / over).round().cast(pl.Int64, strict=False)
    # Whole numbers stay whole: as floats, nanoseconds would lose their last digits.
    exact = rounded if kind.is_float() else pl.coalesce(whole * times_by // over, rounded)
    return pl.when((fraction * times_by / over).abs() < LATEST_SECOND * 1000).then(exact)


def _guess_unit(table: Table, number: pl.Expr) -> str:
    """The unit that puts the median of the first rows into this age; text that is no number is a date."""
    try:
        head = table.scan.select(number).head(1000).collect().to_series().drop_nulls().drop_nans()
    except pl.exceptions.PolarsError as error:
        raise unreadable(table.path, error) from error
    if head.is_empty():
        return "iso"
    median = float(head.cast(pl.Float64).abs().median())  # type: ignore[arg-type]
    return next((unit for unit, least in FINER if median >= least), "s")
