"""Title, brand, categories, price and description of Amazon items, for the items that are wanted and no others.

What the files hold, and what is made of it:

- 2014: lines are Python literals, not JSON; read with ``ast.literal_eval``, which evaluates nothing.
- an item may stand in several lines: the first value that is known counts, field by field.
- titles that are a piece of HTML or of a script are what a crawler got instead of a title: missing.
- text: HTML entities decoded, tags removed, white space joined. Descriptions in several parts are joined.
- price: "$1,250.00" is 1250.0, a range gives its lower end, anything else is missing.
- categories: all paths of the item, each name once, in their order; without any, the main category.
"""

from __future__ import annotations

import ast
import html
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from recbench.data.schema import ITEM_COLUMNS
from recbench.data.sources.raw_lines import line_blocks

log = logging.getLogger(__name__)

SCHEMA: dict[str, Any] = {
    "item": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "categories": pl.List(pl.String),
    "price": pl.Float64,
    "description": pl.String,
}

_JSON_ID = re.compile(rb'"(?:parent_asin|asin)"\s*:\s*"([^"]+)"')
_LITERAL_ID = re.compile(rb"""['"]asin['"]\s*:\s*['"]([^'"]+)['"]""")
_TAG = re.compile(r"<\s*/?\s*[a-zA-Z!][^>]*>?")
_STARTS_AS_MARKUP = re.compile(r"\s*(<\s*/?\s*[a-zA-Z!]|var \w+\s*=)")
_BYLINE = re.compile(r"\s*by\s*\n")
_PRICE = re.compile(r"(?:from\s+)?\$?\s*(\d[\d,]*(?:\.\d+)?)(?:\s*-\s*\$?\s*\d[\d,]*(?:\.\d+)?)?", re.IGNORECASE)


class MetadataReader:
    """Called with the wanted raw ids, gives their rows (``item`` and ITEM_COLUMNS); ``counts`` takes what it met."""

    def __init__(self, path: Path, counts: dict[str, int]) -> None:
        self.path, self.counts = path, counts

    def __call__(self, wanted: pl.Series) -> pl.DataFrame:
        ids = {item.encode() for item in wanted}
        found: dict[str, dict[str, Any]] = {}
        lines = unreadable = 0
        for row in _wanted_rows(self.path, ids):
            lines += 1
            if row is None:
                unreadable += 1
                continue
            fields = item_fields(row)
            known = found.setdefault(fields["item"], fields)
            for name in ITEM_COLUMNS:
                if known[name] is None:
                    known[name] = fields[name]
        self.counts["metadata_lines_of_wanted_items"] = lines
        self.counts["metadata_lines_unreadable"] = unreadable
        self.counts["items_without_metadata"] = len(ids) - len(found)
        if unreadable:
            log.warning("%s: %d lines cannot be read and are left out", self.path.name, unreadable)
        return pl.DataFrame(list(found.values()), schema=SCHEMA)


def item_fields(row: dict[str, Any]) -> dict[str, Any]:
    """``item`` and ITEM_COLUMNS of one metadata row of any release; None where unknown."""
    title = row.get("title")
    markup = isinstance(title, str) and _STARTS_AS_MARKUP.match(html.unescape(title))
    brand = row.get("brand") or row.get("store")
    return {
        "item": str(row.get("parent_asin") or row.get("asin")),
        "title": None if markup else clean_text(title),
        "brand": clean_text(_BYLINE.sub("", brand)) if isinstance(brand, str) else None,
        "categories": _categories(row),
        "price": parse_price(row.get("price")),
        "description": clean_text(row.get("description")),
    }


def clean_text(value: Any) -> str | None:
    """Plain text of a string or of a list of strings; None if nothing is left."""
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    if not isinstance(value, str):
        return None
    text = html.unescape(value)
    if "<" in text:
        text = _TAG.sub(" ", text)
    return " ".join(text.split()) or None


def parse_price(value: Any) -> float | None:
    """Dollars of a number or of text such as "$1,250.00"; None for anything that is not a price."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if 0 <= value < float("inf") else None
    match = _PRICE.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(match[1].replace(",", "")) if match else None


def _categories(row: dict[str, Any]) -> list[str] | None:
    raw = row.get("categories") or row.get("category") or []
    raw = raw if isinstance(raw, list) else [raw]
    flat = [name for path in raw for name in (path if isinstance(path, list) else [path])]
    if not flat:
        flat = [row.get("main_category") or row.get("main_cat")]
    # A "category" with markup in it is a piece of the product's page.
    names = (clean_text(name) for name in flat if isinstance(name, str) and not _TAG.search(html.unescape(name)))
    return list(dict.fromkeys(name for name in names if name)) or None


def _wanted_rows(path: Path, ids: set[bytes]) -> Iterator[dict[str, Any] | None]:
    """Rows of the wanted items; None for a line that cannot be read. The id is looked for before the line is parsed."""
    for _, block in line_blocks(path):
        for line in block.split(b"\n"):
            ids_in_line = _JSON_ID.findall(line) or _LITERAL_ID.findall(line)
            if not ids_in_line:
                if line.strip():
                    yield None
            elif not ids.isdisjoint(ids_in_line):
                row = _parse(line)
                if row is None or str(row.get("parent_asin") or row.get("asin")).encode() in ids:
                    yield row


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            row = ast.literal_eval(line.decode("utf-8", "replace").strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return row if isinstance(row, dict) else None
