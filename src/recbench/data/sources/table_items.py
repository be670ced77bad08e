"""The optional item table of the source ``table``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from recbench.data.schema import ITEM_COLUMNS
from recbench.data.sources.table_config import check_columns, extension
from recbench.data.sources.table_rows import Table, unreadable

if TYPE_CHECKING:
    from recbench.data.sources.table_config import TableConfig


class ItemTable:
    """Opened, and its columns checked, at once; called with the wanted raw ids, gives their rows."""

    def __init__(self, path: Path, config: TableConfig, spool: Path) -> None:
        header = config.items_header
        if header is None:
            header = config.header or extension(path) == ".parquet"
        self.table = Table.open(path, config.separator, spool, header)
        self.columns, self.categories_separator = config.item_columns, config.categories_separator
        check_columns(self.columns, "item_columns", path, self.table.schema.names())

    def __call__(self, wanted: pl.Series) -> pl.DataFrame:
        chosen = {name: column for name in ITEM_COLUMNS if (column := getattr(self.columns, name))}
        expressions = {name: self._value(name, column) for name, column in chosen.items()}
        items = self.table.scan.select(item=pl.col(self.columns.item).cast(pl.String), **expressions)
        try:
            return items.join(pl.LazyFrame({"item": wanted}), on="item", how="semi").collect()
        except pl.exceptions.PolarsError as error:
            raise unreadable(self.table.path, error) from error

    def _value(self, name: str, column: str) -> pl.Expr:
        value, kind = pl.col(column), self.table.schema[column]
        if name == "price":
            return (value.str.replace_all("[$,]", "") if kind == pl.String else value).cast(pl.Float64, strict=False)
        if name == "categories" and isinstance(kind, pl.List):
            return value.cast(pl.List(pl.String))
        text = value.cast(pl.String).str.strip_chars()
        text = pl.when(text != "").then(text)
        return text.str.split(self.categories_separator) if name == "categories" else text
