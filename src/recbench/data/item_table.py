"""The tables of prepared data: items with what is known of them, users with their raw ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.data.schema import ITEM_COLUMNS

if TYPE_CHECKING:
    import polars as pl


def complete_item_table(table: pl.DataFrame | None, n_items: int) -> pl.DataFrame:
    """The table with item_id and every column of ITEM_COLUMNS, nulls where nothing is known."""
    import polars as pl

    if table is None:
        table = pl.DataFrame({"item": [str(i) for i in range(1, n_items + 1)]})
    if table.height != n_items:
        raise ValueError(f"the item table has {table.height} rows for {n_items} items")
    kinds: dict[str, Any] = dict.fromkeys(ITEM_COLUMNS, pl.String)
    kinds |= {"categories": pl.List(pl.String), "price": pl.Float64}
    columns = [
        (pl.col(name) if name in table.columns else pl.lit(None)).cast(kinds[name]).alias(name) for name in ITEM_COLUMNS
    ]
    ids = pl.Series("item_id", np.arange(1, n_items + 1, dtype=np.int32))
    return table.select(ids, pl.col("item").cast(pl.String), *columns)


def user_table(user_ids: list[str] | pl.Series | None, n_users: int) -> pl.DataFrame:
    import polars as pl

    if user_ids is None:
        user_ids = [str(u) for u in range(n_users)]
    if len(user_ids) != n_users:
        raise ValueError(f"{len(user_ids)} user ids for {n_users} users")
    return pl.DataFrame({"user": np.arange(n_users, dtype=np.int64), "user_id": pl.Series(user_ids, dtype=pl.String)})


def has_text(table: pl.DataFrame) -> bool:
    import polars as pl

    known = pl.col("title").is_not_null() | pl.col("description").is_not_null() | (pl.col("categories").list.len() > 0)
    return bool(table.select(known.fill_null(False).any()).item())
