"""Rows of MovieLens rating files into the spool, whatever the release.

A block of lines goes through the CSV parser of Polars with the types that good rows have. A block that has anything
wrong with it is cut and checked again, field by field, so that the message or the count names the line.
"""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl

from recbench.core.errors import UserError
from recbench.data.schema import LATEST_SECOND
from recbench.data.sources.movielens_releases import Layout
from recbench.data.sources.raw_lines import BadRows, RawText, line_blocks
from recbench.data.sources.spool import Spool

COLUMNS = {"user": pl.String, "item": pl.String, "timestamp": pl.Int64, "rating": pl.Float32}

#: The fields of a row in files without a header.
FIELDS = ("user", "item", "rating", "timestamp")

#: What the header of a CSV release calls them.
HEADER_NAMES = {"userId": "user", "movieId": "item", "rating": "rating", "timestamp": "timestamp"}

#: No release has a rating above five stars; none is below half a star, but that much is left open.
MOST_STARS = 5.0


def spool_ratings(text: RawText, layout: Layout, to: Path, bad_rows: str) -> dict[str, int]:
    """Write the good rows, in file order, to a Parquet file with COLUMNS; the counts of rows read and rejected.

    Raises UserError for a damaged file, a header without the four columns and, with ``bad_rows="error"``, a bad row.
    """
    bad = BadRows(bad_rows)
    names = list(FIELDS)
    n_read = 0
    with Spool(to, tuple(COLUMNS)) as spool:
        for first, block in line_blocks(text.path, member=text.member):
            block = block.replace(b"\r\n", b"\n")
            if first == 1 and layout.header:
                header, _, block = block.partition(b"\n")
                names, first = header_fields(header, HEADER_NAMES, text), 2
            if not block.strip():
                continue
            good = _typed(block, layout.separator, names)
            n_rows = 0 if good is None else good.height
            if good is None:
                good, n_rows = _checked(block, first, layout.separator, names, text, bad)
            spool.write(good)
            n_read += n_rows
    return {"rows_read": n_read, **bad.counts}


def header_fields(header: bytes, names: dict[str, str], text: RawText) -> list[str]:
    """Our names of the fields of a header, "" for those that are not wanted. Raises UserError if one is missing or twice."""
    present = next(csv.reader([header.decode("utf-8-sig", "replace")]), [])
    if missing := [name for name in names if name not in present]:
        raise UserError(f"{text.shown} has no column {', '.join(missing)}; it has: {', '.join(present)[:200]}")
    if twice := [name for name in names if present.count(name) > 1]:
        raise UserError(f"{text.shown} has the column {', '.join(twice)} more than once")
    return [names.get(name, "") for name in present]


def _typed(block: bytes, separator: str, names: list[str]) -> pl.DataFrame | None:
    """COLUMNS of a block in which every row is good, else None."""
    if len(separator) > 1:
        # The parser knows separators of one byte. A file that has tabs as well gives too many fields, and is cut below.
        block, separator = block.replace(separator.encode(), b"\t"), "\t"
    schema = {name or f"unused{at}": COLUMNS.get(name, pl.String) for at, name in enumerate(names)}
    try:
        frame = pl.read_csv(block, has_header=False, separator=separator, quote_char=None, schema=schema)
    except pl.exceptions.PolarsError:
        return None
    good = pl.all_horizontal(
        _is_id("user"), _is_id("item"), _is_stamp(pl.col("timestamp")), _is_rating(pl.col("rating"))
    )
    return frame.select(*COLUMNS) if frame.select(good.fill_null(False).all()).item() else None


def _checked(
    block: bytes, first: int, separator: str, names: list[str], text: RawText, bad: BadRows
) -> tuple[pl.DataFrame, int]:
    """COLUMNS of the good rows of a block, and the number of all its rows; blank lines are no rows."""
    lines = pl.DataFrame({"line": block.decode("utf-8", "replace").split("\n")}).with_row_index("number", first)
    fields = pl.col("line").str.split(separator)
    cut = lines.filter(pl.col("line").str.strip_chars() != "").select(
        "number",
        fields.list.len().alias("n_fields"),
        *(fields.list.get(names.index(name), null_on_oob=True).str.strip_chars().alias(name) for name in FIELDS),
    )
    stamp, rating = pl.col("timestamp"), pl.col("rating").cast(pl.Float32, strict=False)
    whole = pl.coalesce(
        stamp.cast(pl.Int64, strict=False), stamp.cast(pl.Float64, strict=False).floor().cast(pl.Int64, strict=False)
    )
    judged = cut.with_columns(_reason(len(names), whole, rating).alias("reason"))
    for number, reason in judged.filter(pl.col("reason").is_not_null()).select("number", "reason").iter_rows():
        bad.add(text.shown, number, reason)
    kept = judged.filter(pl.col("reason").is_null())
    return kept.select("user", "item", timestamp=whole, rating=rating), cut.height


def _reason(n_fields: int, stamp: pl.Expr, rating: pl.Expr) -> pl.Expr:
    """Why a row that was cut cannot be used; null for a good one."""
    found = pl.col("n_fields")
    return (
        pl.when(found < n_fields).then(pl.format("too few fields: {} of {}", found, pl.lit(n_fields)))
        .when(found > n_fields).then(pl.format("too many fields: {}, not {}", found, pl.lit(n_fields)))
        .when(pl.col("user") == "").then(pl.lit("no user"))
        .when(~_is_id("user")).then(pl.format("no usable user: {}", "user"))
        .when(pl.col("item") == "").then(pl.lit("no item"))
        .when(~_is_id("item")).then(pl.format("no usable item: {}", "item"))
        .when(pl.col("rating") == "").then(pl.lit("no rating"))
        .when(~_is_rating(rating).fill_null(False)).then(pl.format("no usable rating: {}", "rating"))
        .when(pl.col("timestamp") == "").then(pl.lit("no timestamp"))
        .when(~_is_stamp(stamp).fill_null(False)).then(pl.format("no usable timestamp: {}", "timestamp"))
    )  # fmt: skip


def _is_id(name: str) -> pl.Expr:
    """Users and movies are whole numbers in every release: anything else is a field in the wrong place."""
    return pl.col(name).cast(pl.UInt64, strict=False).is_not_null()


def _is_stamp(stamp: pl.Expr) -> pl.Expr:
    return stamp.is_between(0, LATEST_SECOND, closed="left")


def _is_rating(rating: pl.Expr) -> pl.Expr:
    return rating.is_between(0, MOST_STARS)
