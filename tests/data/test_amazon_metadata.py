"""Item text of the Amazon releases: what a dirty metadata file is made into."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from recbench.data.sources.amazon_metadata import MetadataReader, clean_text, item_fields, parse_price


def read(tmp_path: Path, text: str, *wanted: str) -> tuple[dict[str, dict], dict[str, int]]:
    path = tmp_path / "meta_X.json.gz"
    path.write_bytes(gzip.compress(text.encode()))
    counts: dict[str, int] = {}
    frame = MetadataReader(path, counts)(pl.Series(wanted))
    return {row["item"]: row for row in frame.iter_rows(named=True)}, counts


def test_lines_of_2014_are_python_literals(tmp_path):
    text = (
        "{'asin': 'A1', 'title': \"It's\", 'price': 9.99, 'brand': 'Br', 'categories': [['X', 'Y'], ['X', 'Z']], "
        "'description': 'one', 'related': {'also_bought': ['A2', 'A3']}, 'salesRank': {'X': 5}}\n"
        "{'asin': 'A2', 'title': 'not wanted'}\n"
    )
    items, counts = read(tmp_path, text, "A1", "A3")
    assert items == {
        "A1": {
            "item": "A1",
            "title": "It's",
            "brand": "Br",
            "categories": ["X", "Y", "Z"],
            "price": 9.99,
            "description": "one",
        }
    }
    assert counts == {
        "metadata_lines_of_wanted_items": 1,
        "metadata_lines_unreadable": 0,
        "items_without_metadata": 1,
    }


def test_a_line_that_cannot_be_read_is_counted_and_code_is_never_run(tmp_path):
    trap = tmp_path / "trap"
    text = (
        f"{{'asin': 'A1', 'title': open({str(trap)!r}, 'w')}}\n"
        "{'asin': 'A1', 'title': 'cut of\n"
        "no id at all\n\n"
        "{'asin': 'A1', 'title': 'good'}\n"
    )
    items, counts = read(tmp_path, text, "A1")
    assert items["A1"]["title"] == "good"
    assert counts["metadata_lines_unreadable"] == 3
    assert not trap.exists()


def test_an_item_in_several_lines_takes_the_first_known_value_of_each_field(tmp_path):
    text = (
        '{"asin": "A1", "title": "<span class=\\"a-size\\"", "brand": "First", "description": []}\n'
        '{"asin": "A1", "title": "Real &amp; good", "brand": "Second", "description": ["d", "", "e"]}\n'
    )
    items, counts = read(tmp_path, text, "A1")
    assert (items["A1"]["title"], items["A1"]["brand"], items["A1"]["description"]) == ("Real & good", "First", "d e")
    assert counts["metadata_lines_of_wanted_items"] == 2


def test_fields_of_2023():
    row = {
        "parent_asin": "P", "asin": "other", "title": "T", "store": "S", "categories": [],
        "main_category": "All Beauty",
        "price": "from 14.99", "description": ["a<br />b"],
    }  # fmt: skip
    assert item_fields(row) == {
        "item": "P", "title": "T", "brand": "S", "categories": ["All Beauty"], "price": 14.99, "description": "a b",
    }  # fmt: skip


def test_fields_of_2018_with_page_fragments():
    row = {
        "asin": "A", "brand": "by\n    \n    Maker", "category": ["Music", "Rock &amp; Pop", "</span></span>"],
        "title": "var aPageStart = (new Date()).getTime();",
    }  # fmt: skip
    fields = item_fields(row)
    assert (fields["brand"], fields["categories"], fields["title"]) == ("Maker", ["Music", "Rock & Pop"], None)
    assert item_fields({"asin": "A", "brand": "by Terry"})["brand"] == "by Terry"
    assert item_fields({"asin": "A", "main_cat": '<img src="x.png" alt="FASHION"/>'})["categories"] is None


@pytest.mark.parametrize(
    ("value", "price"),
    [
        ("$1,250.00", 1250.0), ("$5.99 - $12.50", 5.99), ("7", 7.0), (3, 3.0), (4.5, 4.5), ("", None), (None, None),
        (".a-box-inner{background-color:#fff}", None), ("—", None), (float("nan"), None), (-1, None), (True, None),
    ],
)  # fmt: skip
def test_prices(value, price):
    assert parse_price(value) == price


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("  two \n words ", "two words"), ("<b>Bold</b> &lt;i&gt;x", "Bold x"), (["a", "", "b"], "a b"), ([], None),
        ("", None), (None, None), (5, None), ("<br>", None), ("I <3 it, 5 < 6", "I <3 it, 5 < 6"),
    ],
)  # fmt: skip
def test_text(value, text):
    assert clean_text(value) == text
