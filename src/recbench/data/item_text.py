"""One string for each item, out of the columns of the item table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData


def item_texts(data: PreparedData) -> list[str]:
    """[n_items + 1] strings, by item id: title, brand, categories and description, as far as they are known, joined by ". ".

    The pad's is empty, as is that of an item of which nothing is known.
    """
    import polars as pl

    known = data.item_table().sort("item_id")
    parts = [pl.col("title"), pl.col("brand"), pl.col("categories").list.join(", "), pl.col("description")]
    filled = [pl.when(part.str.strip_chars() != "").then(part.str.strip_chars()) for part in parts]
    return [
        "",
        *known.select(pl.concat_str(filled, separator=". ", ignore_nulls=True).fill_null(""))["title"].to_list(),
    ]
