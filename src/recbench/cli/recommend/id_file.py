"""A file with pairs of a user and an item, as people have them: CSV, TSV, JSON lines or Parquet, with a header."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recbench.core.errors import UserError, first_line

if TYPE_CHECKING:
    import polars as pl

#: Names of the two columns, the first being ours.
NAMES = {"user": ("user", "user_id"), "item": ("item", "item_id")}
ENDINGS = (".parquet", ".csv", ".tsv", ".jsonl")


def read_pairs(path: Path) -> pl.DataFrame:
    """The columns ``user`` and ``item`` as text, in the order of the file.

    Raises UserError for a file that cannot be read, lacks a column, holds an empty id, or has no rows.
    """
    import polars as pl

    if not path.is_file():
        raise UserError(f"there is no file {path}; name one with --candidates FILE")
    if path.suffix not in ENDINGS:
        raise UserError(f"cannot read {path}: its name must end in one of {', '.join(ENDINGS)}")
    table = read_table(path)
    columns = {}
    for ours, names in NAMES.items():
        found = [name for name in names if name in table.columns]
        if len(found) != 1:
            problem = f"both {' and '.join(found)}" if found else f"no column {' or '.join(names)}"
            raise UserError(f"{path} has {problem}; its columns are {', '.join(table.columns)[:200]}")
        columns[ours] = pl.col(found[0]).cast(pl.String).alias(ours)
    pairs = table.select(**columns)
    if not pairs.height:
        raise UserError(f"{path} has a header and no pairs")
    empty = pairs.select(pl.any_horizontal(pl.all().is_null()).arg_true()).to_series()
    if len(empty):
        raise UserError(
            f"{path}: {len(empty):,} of {pairs.height:,} pairs lack an id, the first is number {empty[0] + 1:,}"
        )
    return pairs


def read_table(path: Path) -> pl.DataFrame:
    """A table whose name ends in one of ENDINGS; columns of text files are text. Raises UserError for one that cannot be read."""
    import polars as pl

    try:
        return _read(path)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {first_line(error)}") from error


def _read(path: Path) -> pl.DataFrame:
    import polars as pl

    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    if path.suffix == ".jsonl":
        return pl.read_ndjson(path, infer_schema_length=None)
    return pl.read_csv(path, infer_schema=False, separator="\t" if path.suffix == ".tsv" else ",")
