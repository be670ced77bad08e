"""Tables that others split (``data.parts``): one reader for rows and for lists of items, a user a line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from recbench.core.errors import UserError
from recbench.data.given_parts import PARTS
from recbench.data.sources.raw_lines import BadRows, RawText, line_blocks
from recbench.data.sources.spool import Spool
from recbench.data.sources.table_columns import find_columns, text_format
from recbench.data.sources.table_config import Columns
from recbench.data.sources.table_open import JSON_LINES, Table, open_table
from recbench.data.sources.table_rows import Rows, clock_of
from recbench.data.sources.text_table import HEAD_BYTES, suffix_of

if TYPE_CHECKING:
    from recbench.data.sources.table_config import TableConfig

log = logging.getLogger(__name__)

#: Columns of a list once it is a table.
OF_LISTS = Columns(user="user", item="item", timestamp=None)


class ListTable:
    """Lines of a user's id and then the ids of its items, between blanks, as rows of ``user`` and ``item``. A user without items has no row."""

    unit = "line"
    schema = pl.Schema({"user": pl.String, "item": pl.String})

    def __init__(self, text: RawText, encoding: str) -> None:
        self.text, self.encoding, self.path = text, encoding, text.shown

    def doubled(self, name: str) -> bool:
        return False

    def batches(self, columns: list[str], bad: BadRows, size: int | None = None) -> Iterator[pl.DataFrame]:
        for first, block in line_blocks(self.text.path, size, self.text.member, self.encoding):
            try:
                lines = block.decode().removesuffix("\n").split("\n")
            except UnicodeDecodeError as error:
                line = first + block.count(b"\n", 0, error.start)
                raise UserError(
                    f"{self.path.name} line {line}: byte 0x{block[error.start]:02x} is not UTF-8; name the encoding with data.encoding"
                ) from error
            words = pl.col("text").str.extract_all(r"\S+")
            frame = pl.DataFrame({"text": lines}).with_row_index("line", offset=first).with_columns(words=words)
            yield (
                frame.filter(pl.col("words").list.len() > 1)
                .select(
                    pl.col("line").cast(pl.Int64), user=pl.col("words").list.first(), item=pl.col("words").list.slice(1)
                )
                .explode("item")
            )


def spool_parts(files: dict[str, list[RawText]], config: TableConfig, to: Path) -> tuple[dict[str, int], bool]:
    """Write the good rows of all parts to a Parquet file, with a column ``part``; (the counts of rows, whether there are timestamps).

    files: part -> its files. Raises UserError for parts of different forms, for an empty one, and as ``spool_rows`` does.
    """
    named = [(part, text) for part, texts in files.items() for text in texts]
    forms = {text.shown: config.parts.form if config.parts.form != "auto" else _form(text, config) for _, text in named}
    # Lists of one length, such as a test part of one item a user, are told by the other parts.
    clear = "lists" if "lists" in forms.values() else "rows"
    forms = {path: clear if form == "either" else form for path, form in forms.items()}
    if len(set(forms.values())) > 1:
        told = ", ".join(f"{path.name}: {form}" for path, form in forms.items())
        raise UserError(
            f"data.parts must all be rows or all lists of items, but look like {told}; data.parts.form says which"
        )
    if "lists" in forms.values():
        config = replace(config, columns=OF_LISTS, min_rating=None)
        if config.parts.form == "auto":
            log.info("taking a line of the parts for a user and its items (data.parts.form=rows says otherwise)")
        tables: list[Table] = [ListTable(text, config.encoding) for _, text in named]
    else:
        tables = [open_table(text, text_format(config, config.header)) for _, text in named]
    columns = [find_columns(config.columns, "columns", table) for table in tables]
    rows = Rows(config, clock_of(tables, columns, config), BadRows(config.bad_rows))
    counts: dict[str, int] = {}
    with Spool(to, (*rows.columns, "part")) as spool:
        for (part, _), table, found in zip(named, tables, columns, strict=True):
            before = spool.rows
            for frame in rows.of(table, found):
                spool.write(frame.with_columns(part=pl.lit(PARTS.index(part), pl.Int8)))
            counts[f"rows_{part}"] = counts.get(f"rows_{part}", 0) + spool.rows - before
        n_good = spool.rows
    for part in files:
        if not counts[f"rows_{part}"]:
            raise UserError(f"data.parts.{part} holds no usable row")
    return {"rows_read": n_good + rows.bad.total, **counts, **rows.finish(to)}, config.columns.timestamp is not None


def _form(text: RawText, config: TableConfig) -> str:
    """``lists`` if the first line names no column of ours and lines differ in the number of their words; ``either`` if they do not differ; else
    ``rows``."""
    if suffix_of(text) in (*JSON_LINES, ".parquet", ".pq"):
        return "rows"
    _, block = next(line_blocks(text.path, HEAD_BYTES, text.member, config.encoding), (1, b""))
    lines = [line for line in block.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines or (config.header and str(config.columns.item) in lines[0]):
        return "rows"
    if any(separator in lines[0] for separator in (",", ";", "::")):
        return "rows"
    return "lists" if len({len(line.split()) for line in lines}) > 1 else "either"
