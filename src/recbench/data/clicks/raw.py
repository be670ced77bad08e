"""Rows of impressions as a source gives them, in one frame whatever the source.

A source with impressions of its own has a function ``impressions(config, to) -> counts`` that writes them to the Parquet file ``to``. Of any other
source each interaction is a row: its label is a rating above ``protocol.label_above``, or 1.

The frame has ``user``, ``item`` (text), ``label`` (int8; further labels ``label:NAME``), ``timestamp`` (int64 seconds, only where there is a clock),
``part`` (int8, only where others split the rows) and a column for each further field: text for categories, floats for numbers, lists of text
for several values.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from recbench.core.errors import UserError
from recbench.data.clicks.protocol import ClicksConfig
from recbench.data.schema import DataConfig
from recbench.data.sources import Source, lookup

#: Columns with a meaning of their own; any other is a field.
NAMED = ("user", "item", "label", "timestamp", "part", "request")
#: Of further labels, as in ``label:conversion``.
LABEL = "label:"


def impressions_of(source: Source) -> Callable[[Any, Path], dict[str, int]] | None:
    """The function by which a source gives impressions; None where it has none."""
    return source.beside.get("impressions")


def raw_rows(
    config: DataConfig, protocol: ClicksConfig, working: Path, cache_dir: Path
) -> tuple[pl.DataFrame, dict[str, int]]:
    """(the rows in the order of the source, counts). working: a folder for files that are gone afterwards.

    Raises UserError for rows without a label, for labels other than 0 and 1, and where ``protocol.label_above`` has nothing to work on.
    """
    source = lookup(config.name)
    spool = working / "spool"
    spool.mkdir(parents=True)
    make = impressions_of(source)
    if make is not None and protocol.label_above is None:
        counts = dict(make(config, spool / "impressions.parquet"))
        rows = pl.read_parquet(spool / "impressions.parquet")
    else:
        raw = source.read(config, spool, cache_dir)
        rows, counts = (
            _of_interactions(pl.read_parquet(raw.interactions), config, protocol, raw.has_timestamps),
            dict(raw.counts),
        )
        if raw.has_timestamps:
            rows = rows.with_columns(pl.col("timestamp") // raw.ticks_per_second)
    shutil.rmtree(spool)
    if rows.is_empty():
        raise UserError(f"data={config.name} has no rows to train on or to ask about")
    _check_labels(rows)
    kept = core(rows, config.k_core)
    if kept.is_empty():
        raise UserError(f"data.k_core={config.k_core} leaves no row; lower it, or set data.k_core=0")
    return kept, {**counts, "rows_outside_the_core": rows.height - kept.height}


def _of_interactions(rows: pl.DataFrame, config: DataConfig, protocol: ClicksConfig, timed: bool) -> pl.DataFrame:
    """Interactions as impressions."""
    if config.min_rating is not None:
        raise UserError("data.min_rating drops the rows without a click; leave it null and set protocol.label_above")
    if protocol.label_above is None:
        label = pl.lit(1, pl.Int8)
    elif "rating" not in rows.columns or rows["rating"].is_null().all():
        raise UserError(
            f"protocol.label_above={protocol.label_above:g} needs ratings, and data={config.name} has none; leave it null"
        )
    else:
        label = (pl.col("rating") > protocol.label_above).cast(pl.Int8)
    named = ["user", "item", *(["timestamp"] if timed else []), *(["part"] if "part" in rows.columns else [])]
    return rows.select(*named, label=label)


def _check_labels(rows: pl.DataFrame) -> None:
    labels = [name for name in rows.columns if name == "label" or name.startswith(LABEL)]
    if "label" not in labels:
        raise UserError("these rows have no label: name its column with data.columns.label")
    for name in labels:
        wrong = rows.with_row_index("row").filter(~pl.col(name).is_in([0, 1]) | pl.col(name).is_null())
        if wrong.height:
            first = wrong.row(0, named=True)
            raise UserError(
                f"row {first['row'] + 1:,} of the data has the {name} {first[name]}, and a label is 0 or 1 ({wrong.height:,} such rows)"
            )


def core(rows: pl.DataFrame, k: int) -> pl.DataFrame:
    """The rows of users and items that have at least k rows each, to a fixed point."""
    while k > 1:
        kept = rows.filter((pl.len().over("user") >= k) & (pl.len().over("item") >= k))
        if kept.height == rows.height:
            break
        rows = kept
    return rows
