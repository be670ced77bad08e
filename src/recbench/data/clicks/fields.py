"""Fields of impressions as numbers that a model reads. Vocabularies and scales come from the training rows alone.

    category        0 missing · 1 unknown: not in training, or in fewer than ``rare`` rows of it · 2, 3, ... by falling count, then by name
    number          (x - mean) / deviation of training; 0 where missing
    several values  the categories of each, right-padded with 0; the last MOST_VALUES of a row

Shapes: N rows, F categorical fields, G numbers, M values of a field of several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from recbench.core.errors import UserError
from recbench.data.cases import flat_ranges
from recbench.data.clicks.known_fields import FIRST, MISSING, UNKNOWN, Fields

#: Values of a row that are kept of a field of several.
MOST_VALUES = 50


def vocabulary(values: pl.Series, rare: int) -> pl.DataFrame:
    """Columns value, id of what stands in ``rare`` training rows or more.

    >>> vocabulary(pl.Series(["b", "a", "b", None, "c"]), 1)["value"].to_list()
    ['b', 'a', 'c']
    """
    counts = values.drop_nulls().value_counts(name="n").rename({values.name: "value"})
    kept = counts.filter(pl.col("n") >= rare).sort(["n", "value"], descending=[True, False])
    return kept.select("value", id=pl.int_range(FIRST, pl.len() + FIRST, dtype=pl.Int32))


def coded(values: pl.Series, known: pl.DataFrame) -> np.ndarray:
    """[N] int32: the number of each value."""
    frame = pl.DataFrame({"value": values}).join(known, on="value", how="left", maintain_order="left")
    number = pl.when(pl.col("value").is_null()).then(MISSING).otherwise(pl.col("id").fill_null(UNKNOWN))
    return frame.select(number.cast(pl.Int32).alias("number"))["number"].to_numpy()


@dataclass(frozen=True)
class CodedRows:
    """fields; categories [N, F] int32; numbers [N, G] float32; several: [N, M] int32 a field; unknown: how many values test and validation have
    that training lacks, by field."""

    fields: Fields
    categories: np.ndarray
    numbers: np.ndarray
    several: tuple[np.ndarray, ...]
    unknown: dict[str, int]


def code_rows(rows: pl.DataFrame, names: Sequence[str], training: np.ndarray, rare: int) -> CodedRows:
    """Number the fields ``names`` of all rows. training [N] bool. Raises UserError, with the row, for a number that is none."""
    kinds = {name: rows.schema[name] for name in names}
    categories, numbers, several = {}, {}, {}
    sizes: dict[str, int] = {}
    unknown = {}
    for name, kind in kinds.items():
        if kind.is_float():
            numbers[name] = _scaled(rows[name], name, training)
        elif kind.is_nested():
            several[name], sizes[name] = _several(rows[name], training, rare)
        else:
            text = rows[name].cast(pl.String)
            known = vocabulary(text.filter(training), rare)
            categories[name], sizes[name] = coded(text, known), known.height + FIRST
            unknown[name] = int((categories[name][~training] == UNKNOWN).sum())
    n = rows.height
    return CodedRows(
        Fields({name: sizes[name] for name in categories}, tuple(numbers), {name: sizes[name] for name in several}),
        np.stack(list(categories.values()), 1) if categories else np.zeros((n, 0), np.int32),
        np.stack(list(numbers.values()), 1) if numbers else np.zeros((n, 0), np.float32),
        tuple(several.values()),
        unknown,
    )


def _scaled(values: pl.Series, name: str, training: np.ndarray) -> np.ndarray:
    column = values.cast(pl.Float64)
    wrong = (~column.is_finite()).fill_null(False).to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"row {row + 1:,}: the field {name} is {column[row]}, which is no number; leave the cell empty if it is not known"
        )
    known = column.filter(training & column.is_not_null().to_numpy())
    mean, deviation = (known.mean() or 0.0, known.std() or 0.0) if len(known) else (0.0, 0.0)
    scaled = (column - mean) / (deviation or 1.0)
    return scaled.fill_null(0.0).to_numpy().astype(np.float32)


def _several(values: pl.Series, training: np.ndarray, rare: int) -> tuple[np.ndarray, int]:
    lists = values.cast(pl.List(pl.String)).list.tail(MOST_VALUES)
    known = vocabulary(lists.filter(training).explode().rename("v"), rare)
    lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    flat = coded(lists.filter(lists.list.len().fill_null(0) > 0).explode(), known)
    out = np.zeros((len(values), max(1, int(lengths.max(initial=1)))), np.int32)
    out[flat_ranges(np.zeros_like(lengths), lengths)] = flat
    return out, known.height + FIRST
