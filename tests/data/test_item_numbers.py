"""Raw ids to item numbers."""

from __future__ import annotations

import numpy as np
import polars as pl

from recbench.data.item_numbers import item_numbers


def test_numbers_are_those_of_the_item_table_and_0_for_what_is_unknown(tiny_data):
    table = tiny_data.item_table()
    known = dict(zip(table["item"], table["item_id"], strict=True))
    asked = [table["item"][7], "gone", table["item"][0], "", table["item"][7]]
    expected = [known[asked[0]], 0, known[asked[2]], 0, known[asked[0]]]
    assert item_numbers(tiny_data, asked).tolist() == expected
    found = item_numbers(tiny_data, pl.Series([asked[0], None], dtype=pl.String))
    assert (found.dtype, found.tolist()) == (np.int64, [expected[0], 0])
    assert item_numbers(tiny_data, []).shape == (0,)
