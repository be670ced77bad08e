"""The optional item table of the source ``table``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import polars as pl

from recbench.core.errors import UserError
from recbench.data.schema import ITEM_COLUMNS
from recbench.data.sources.raw_lines import BadRows, RawText, shown
from recbench.data.sources.table_columns import find_columns, text_format
from recbench.data.sources.table_config import ItemColumns
from recbench.data.sources.table_ids import tidy
from recbench.data.sources.table_open import Table, open_table
from recbench.data.sources.text_table import suffix_of

if TYPE_CHECKING:
    from recbench.data.sources.table_config import TableConfig

log = logging.getLogger(__name__)

#: With a smaller share of the items found, an example of each side is shown.
FEW = 0.5


class ItemTable:
    """Opened, and its columns checked, at once; called with the wanted raw ids, gives their rows.

    Bad rows are named or counted as those of the interactions are.
    """

    def __init__(self, files: list[RawText], config: TableConfig) -> None:
        self.config, self.bad = config, BadRows(config.bad_rows)
        self.tables: list[tuple[Table, ItemColumns]] = []
        for text in files:
            header = config.items_header
            if header is None:
                header = config.header or suffix_of(text) == ".parquet"
            table = open_table(text, text_format(config, header))
            self.tables.append((table, find_columns(config.item_columns, "item_columns", table)))
        self.unpriced, self.first_unpriced = 0, ""
        self.known = 0
        self.example: str | None = None

    def __call__(self, wanted: pl.Series) -> pl.DataFrame:
        """The rows of the wanted items; an item's first row counts. Says how many were found; raises UserError if none was."""
        frames = [
            self._batch(frame, table, columns, wanted)
            for table, columns in self.tables
            for frame in self._read(table, columns)
        ]
        found = pl.concat(frames) if frames else pl.DataFrame({"item": pl.Series([], dtype=pl.String)})
        self._tell(found["item"].n_unique(), wanted)
        return found

    def _read(self, table: Table, columns: ItemColumns):  # type: ignore[no-untyped-def]
        return table.batches(list(dict.fromkeys(name for name in vars(columns).values() if name)), self.bad)

    def _batch(self, frame: pl.DataFrame, table: Table, columns: ItemColumns, wanted: pl.Series) -> pl.DataFrame:
        """Our columns of a batch, for the wanted items."""
        chosen = {name: column for name in ITEM_COLUMNS if (column := getattr(columns, name))}
        value, kind = pl.col(columns.item), table.schema[columns.item]
        item = (value.fill_nan(None) if kind.is_float() else value).cast(pl.String)
        item = tidy(item) if self.config.tidy_ids else item
        rows = frame.select(
            "line", item=item, **{name: self._value(name, column, table) for name, column in chosen.items()},
            **({"raw_price": pl.col(chosen["price"]).cast(pl.String)} if "price" in chosen else {}),
        )  # fmt: skip
        nameless = pl.col("item").is_null() | (pl.col("item").str.strip_chars() == "")
        for line in rows.filter(nameless)["line"]:
            self.bad.add(table.path, line, "no item", unit=table.unit)
        rows = rows.filter(~nameless)
        self.known += rows.height
        if self.example is None and rows.height:
            self.example = rows["item"][0]
        if "price" in chosen:
            raw = pl.col("raw_price").str.strip_chars()
            unread = rows.filter(pl.col("price").is_null() & raw.is_not_null() & ~raw.is_in(["", "NaN", "nan"]))
            if unread.height:
                self.unpriced += unread.height
                first = unread.row(0, named=True)
                self.first_unpriced = (
                    self.first_unpriced
                    or f"{table.path.name} {table.unit} {first['line']}: {shown(first['raw_price'])}"
                )
        return rows.select("item", *chosen).filter(pl.col("item").is_in(wanted.implode()))

    def _value(self, name: str, column: str, table: Table) -> pl.Expr:
        value, kind = pl.col(column), table.schema[column]
        if name == "price":
            return (value.str.replace_all("[$,]", "") if kind == pl.String else value).cast(pl.Float64, strict=False)
        if name == "categories" and isinstance(kind, pl.List):
            return value.cast(pl.List(pl.String))
        if isinstance(kind, pl.List):
            value = value.cast(pl.List(pl.String)).list.join(" ")
        text = value.cast(pl.String).str.strip_chars()
        text = pl.when(text != "").then(text)
        return text.str.split(self.config.categories_separator) if name == "categories" else text

    def _tell(self, found: int, wanted: pl.Series) -> None:
        name = self.tables[0][0].path.name
        if self.bad.total:
            log.warning("%s: rows dropped: %s; first: %s", name, f"{self.bad.total:,}", self.bad.first)
        if self.unpriced:
            log.warning(
                "%s: prices that are no numbers, and count as unknown: %s; first: %s",
                name,
                f"{self.unpriced:,}",
                self.first_unpriced,
            )
        if not self.known:
            raise UserError(f"data.items_path: {self.tables[0][0].path} holds no item")
        example = f"first there: {shown(self.example or '')}, first of the interactions: {shown(wanted[0])}"
        if not found:
            tidied = pl.DataFrame({"id": [wanted[0], self.example]}).select(tidy(pl.col("id")))["id"].to_list()
            mend = (
                "data.tidy_ids=true may help"
                if tidied != [wanted[0], self.example]
                else "is data.item_columns.item the right column?"
            )
            raise UserError(
                f"data.items_path: {self.tables[0][0].path} knows none of the {len(wanted):,} items of the interactions ({example}); {mend}"
            )
        said = f"{name}: {found:,} of the {len(wanted):,} items of the interactions are in it"
        if found < FEW * len(wanted):
            log.warning("%s (%s)", said, example)
        else:
            log.info("%s", said)
