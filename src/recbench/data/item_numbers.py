"""From raw ids to item numbers: the one place where ids of a person, of a file or of other data meet the items of prepared data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl

    from recbench.data.prepared import PreparedData


def item_numbers(data: PreparedData, names: Sequence[str] | pl.Series) -> np.ndarray:
    """[N] int64: the number of each raw id, 0 for one that the data do not have."""
    import polars as pl

    table = data.item_table()
    asked = names if isinstance(names, pl.Series) else pl.Series(list(names), dtype=pl.String)
    found = asked.replace_strict(table["item"], table["item_id"].cast(pl.Int64), default=0, return_dtype=pl.Int64)
    return found.to_numpy().astype(np.int64)
