"""Rows of tables, whatever their format, into the spool: batch by batch, bad rows named or counted, odd ones warned of."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow.parquet as pq

from recbench.core.errors import UserError
from recbench.data.events import batches
from recbench.data.sources.raw_lines import BadRows, shown
from recbench.data.sources.spool import Spool
from recbench.data.sources.table_columns import find_columns
from recbench.data.sources.table_ids import BARE, MISSING, ODD, IdCheck, tidy
from recbench.data.sources.table_open import Table, sample
from recbench.data.sources.table_times import BIN_MS, WORDS, Clock, Span, choose_clock, date, usual_range

if TYPE_CHECKING:
    from recbench.data.sources.table_config import Columns, TableConfig

log = logging.getLogger(__name__)

#: Files whose first rows are looked at before what a timestamp counts is decided.
SAMPLED_FILES = 20


def spool_rows(tables: list[Table], config: TableConfig, to: Path) -> dict[str, int]:
    """Write the good rows of the tables, one after the other, to a Parquet file; the counts of rows read and rejected.

    Raises UserError for a bad row, unless ``data.bad_rows=skip``, and for columns that are not there.
    """
    found = [find_columns(config.columns, "columns", table) for table in tables]
    clock = clock_of(tables, found, config)
    rows = Rows(config, clock, BadRows(config.bad_rows))
    with Spool(to, rows.columns) as spool:
        for table, columns in zip(tables, found, strict=True):
            for frame in rows.of(table, columns):
                spool.write(frame)
        n_good = spool.rows
    return {"rows_read": n_good + rows.bad.total, **rows.finish(to)}


def clock_of(tables: list[Table], columns: list[Columns], config: TableConfig) -> Clock | None:
    """How the timestamps of all tables are read, which is said; None where there are none."""
    if config.columns.timestamp is None:
        return None
    parts = [
        sample(table, found.timestamp)  # type: ignore[arg-type]
        for table, found in list(zip(tables, columns, strict=True))[:SAMPLED_FILES]
    ]
    kinds = {part.dtype for part in parts}
    if len(kinds) > 1:
        parts = [part.cast(pl.String) for part in parts]
    values = pl.concat([part.rename("") for part in parts])
    clock = choose_clock(values, config.timestamp_unit, config.timestamp_format)
    if (
        len(values)
        and not clock.is_doubtful
        and config.timestamp_unit == "auto"
        and config.timestamp_format is None
        and not values.dtype.is_temporal()
    ):
        log.info(
            "%s: taking timestamps for %s (data.timestamp_unit, data.timestamp_format say otherwise)",
            tables[0].path.name,
            WORDS[clock.unit],
        )
    return clock


class Rows:
    """Rows of any number of tables, judged. columns: of the frames that ``of`` gives."""

    def __init__(self, config: TableConfig, clock: Clock | None, bad: BadRows) -> None:
        self.config, self.clock, self.bad = config, clock, bad
        names = config.columns
        optional = {
            "rating": names.rating,
            "behaviour": names.behaviour,
            "session": names.session if names.user else None,
            "review": names.review,
        }
        self.columns = ("user", "item", *(name for name, column in optional.items() if column), "timestamp")
        self.checks = [IdCheck(name) for name in ("user", "item")]
        self.span = Span()
        self.unrated = 0
        self.last_path = Path()

    def of(self, table: Table, columns: Columns) -> Iterator[pl.DataFrame]:
        """The good rows of a table, batch by batch."""
        self.last_path = table.path
        wanted = list(dict.fromkeys(name for name in vars(columns).values() if name))
        for frame in table.batches(wanted, self.bad):
            named = self._named(frame, table, columns)
            # What is wrong with a row is only put into words where something is.
            fine = named.select(self._is_fine(named)).to_series()
            good = named
            if not fine.all():
                good = named.filter(fine)
                self._reject(named.filter(~fine), table)
            for check in self.checks:
                check.add(table.path, good)
            if "rating" in good.columns:
                self.unrated += good["rating"].null_count()
            if self.clock is not None:
                self.span.add(table.path, good)
            yield good.select(self.columns)

    def finish(self, spool: Path) -> dict[str, int]:
        """Look at the spooled rows as a whole, drop those of another age if that is asked for, and warn; the counts of what was found.

        Raises UserError for rows of another age, unless ``data.bad_rows=skip``.
        """
        found: dict[str, int] = {}
        if self.clock is not None and self.span.rows:
            self._far_rows(spool)
            self._warn_of_range()
        for check in self.checks:
            found |= check.report(spool)
        if self.unrated:
            found["rows_without_rating"] = self.unrated
            if self.config.min_rating is not None:
                log.warning("rows without a rating, which go with data.min_rating: %s", f"{self.unrated:,}")
        if self.bad.total:
            kinds = ", ".join(
                f"{kind.removeprefix('rows_rejected_').replace('_', ' ')} {rows:,}"
                for kind, rows in self.bad.counts.items()
            )
            log.warning("rows dropped: %s (%s); first: %s", f"{self.bad.total:,}", kinds, self.bad.first)
        return {**self.bad.counts, **found}

    def _named(self, frame: pl.DataFrame, table: Table, columns: Columns) -> pl.DataFrame:
        """The frame's line, our columns, whether an id looks odd, and timestamp and rating as they stand in the file."""
        ours = {"user": self._id(columns.user or columns.session, table), "item": self._id(columns.item, table)}
        session = columns.session if columns.user else None
        for name, column in (("behaviour", columns.behaviour), ("session", session), ("review", columns.review)):
            if column:
                text = pl.col(column).cast(pl.String)
                ours[name] = pl.when(text != "").then(text)
        if columns.rating:
            kind, raw = table.schema[columns.rating], pl.col(columns.rating)
            raw = raw.fill_nan(None) if kind.is_float() else raw
            number = (raw.str.strip_chars() if kind == pl.String else raw).cast(pl.Float32, strict=False)
            ours |= {"raw_rating": raw.cast(pl.String), "rating": pl.when(number.is_finite()).then(number)}
        stamps = pl.Series("timestamp", [0], dtype=pl.Int64).new_from_index(0, frame.height)
        raw_time = pl.lit(None, pl.String)
        if self.clock is not None:
            assert columns.timestamp is not None
            stamps = self.clock.milliseconds(frame[columns.timestamp]).rename("timestamp")
            raw_time = pl.col(columns.timestamp).cast(pl.String)
        named = frame.select("line", raw_timestamp=raw_time, **ours).with_columns(stamps)
        return named.with_columns(pl.col(name).str.contains(ODD).alias(f"odd_{name}") for name in ("user", "item"))

    def _is_fine(self, named: pl.DataFrame) -> pl.Expr:
        fine = pl.col("timestamp").is_not_null()
        for name in ("user", "item"):
            fine &= pl.col(name).is_not_null() & (pl.col(name) != "")
            if named[f"odd_{name}"].any():
                fine &= ~pl.col(name).str.contains(BARE)
                if self.config.missing_ids == "drop":
                    fine &= ~pl.col(name).str.contains(MISSING)
        if "rating" in self.columns:
            fine &= (
                pl.col("rating").is_not_null()
                | pl.col("raw_rating").is_null()
                | pl.col("raw_rating").str.contains(BARE)
            )
        return fine.fill_null(False)

    def _id(self, column: str | None, table: Table) -> pl.Expr:
        assert column is not None
        value, kind = pl.col(column), table.schema[column]
        # pandas writes a missing whole number as NaN.
        text = (value.fill_nan(None) if kind.is_float() else value).cast(pl.String)
        return tidy(text) if self.config.tidy_ids else text

    def _reject(self, rows: pl.DataFrame, table: Table) -> None:
        """Name or count rows that cannot be used."""

        def bare(name: str) -> pl.Expr:
            return pl.col(name).is_null() | pl.col(name).str.contains(BARE)

        drops = pl.lit(self.config.missing_ids == "drop")
        unread = pl.col("raw_rating") if "rating" in self.columns else pl.lit("")
        reason = (
            pl.when(bare("user")).then(pl.lit("no user"))
            .when(bare("item")).then(pl.lit("no item"))
            .when(drops & pl.col("user").str.contains(MISSING)).then(pl.format("missing user: {}", "user"))
            .when(drops & pl.col("item").str.contains(MISSING)).then(pl.format("missing item: {}", "item"))
            .when(pl.col("timestamp").is_null() & bare("raw_timestamp")).then(pl.lit("no timestamp"))
            .when(pl.col("timestamp").is_null()).then(pl.format("no usable timestamp: {}", "raw_timestamp"))
            .otherwise(pl.format("no usable rating: {}", unread))
        )  # fmt: skip
        for line, why in rows.select("line", reason.alias("reason")).iter_rows():
            if why.startswith("missing "):  # asked for by data.missing_ids, whatever data.bad_rows says
                self.bad.count(why.split(":")[0], 1, f"{table.path.name} {table.unit} {line}: {shown(why)}")
                continue
            hint = self.clock.hint if self.clock and why.startswith("no usable timestamp") else ""
            self.bad.add(table.path, line, why, hint, table.unit)

    def _far_rows(self, spool: Path) -> None:
        """Rows decades away from the rest: mostly a missing time, or one in another unit."""
        far, near = self.span.far()
        if not far:
            return
        rows = sum(self.span.rows[number] for number in far)
        path, line, raw = min((self.span.example[number] for number in far), key=lambda found: found[1])
        year = date(far[0] * BIN_MS)
        rest = f"{date(near[0] * BIN_MS)} to {date(near[-1] * BIN_MS + BIN_MS - 1)}"
        what = f"timestamp {shown(raw)} lies decades away from the rest of the log, about {rest}"
        if self.bad.policy == "error":
            raise UserError(
                f"{path.name} line {line}: {what}, as do {rows:,} rows in all (some of about {year}); mend them, name what a timestamp counts "
                f"with data.timestamp_unit, or set data.bad_rows=skip to drop such rows ({path})"
            )
        self.bad.count("time far from the rest", rows, f"{path.name} line {line}: {what}")
        low, high = near[0] * BIN_MS, (near[-1] + 1) * BIN_MS
        _rewrite(spool, pl.col("timestamp").is_between(low, high, closed="left"))
        self.span.rows = {number: self.span.rows[number] for number in near}

    def _warn_of_range(self) -> None:
        if not self.span.outside or self.span.first is None or self.span.last is None:
            return
        earliest, end = usual_range()
        log.warning(
            "%s rows of %s lie outside %s to %s (the log runs from %s to %s); if that is wrong: data.timestamp_unit or data.timestamp_format",
            f"{self.span.outside:,}",
            self.last_path.name,
            date(earliest)[:4],
            date(end - 1)[:4],
            date(self.span.first),
            date(self.span.last),
        )


def _rewrite(spool: Path, kept: pl.Expr) -> None:
    """Keep the rows of the spool for which the expression is true."""
    before = spool.with_suffix(".before")
    spool.rename(before)
    names = pq.read_schema(before).names
    with Spool(spool, tuple(names)) as out:
        for batch in batches(before, names):
            out.write(batch.filter(kept))
    before.unlink()
