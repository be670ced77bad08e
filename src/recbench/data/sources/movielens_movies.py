"""Titles and genres of MovieLens movies, for the movies that are wanted and no others."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl

from recbench.data.sources.movielens_releases import FLAGGED_GENRES, NO_GENRE, NO_TITLE, Layout
from recbench.data.sources.movielens_rows import header_fields
from recbench.data.sources.raw_lines import BadRows, RawText, line_blocks

log = logging.getLogger(__name__)

SCHEMA: dict[str, Any] = {"item": pl.String, "title": pl.String, "categories": pl.List(pl.String)}

HEADER_NAMES = {"movieId": "item", "title": "title", "genres": "genres"}

#: u.item: number, title, two dates and an address before the genres.
FIELDS_BEFORE_FLAGS = 5


class MovieReader:
    """Called with the wanted raw ids, gives their rows: ``item``, ``title``, ``categories``; ``counts`` takes what it met.

    Every row is checked, wanted or not. Calling raises UserError for a damaged file and, with ``bad_rows="error"``, for
    a row that cannot be used, by its line.
    """

    def __init__(self, text: RawText, layout: Layout, counts: dict[str, int], bad_rows: str) -> None:
        self.text, self.layout, self.counts, self.bad_rows = text, layout, counts, bad_rows

    def __call__(self, wanted: pl.Series) -> pl.DataFrame:
        ids, bad = set(wanted), BadRows(self.bad_rows)
        found: dict[str, tuple[str | None, list[str] | None]] = {}
        for number, item, title, genres in self._rows(bad):
            if not item.isdecimal():
                bad.add(self.text.shown, number, f"no usable movie number: {item}")
            elif item in ids and item not in found:
                title = title.strip()
                found[item] = title if title not in ("", NO_TITLE) else None, _known(genres)
        self.counts["movie_rows_rejected"] = sum(bad.counts.values())
        self.counts["items_without_title"] = len(ids) - sum(title is not None for title, _ in found.values())
        return pl.DataFrame([(item, *known) for item, known in found.items()], schema=SCHEMA, orient="row")

    def _rows(self, bad: BadRows) -> Iterator[tuple[int, str, str, list[str]]]:
        """(line, number of the movie, title, genres) of the rows with as many fields as they should have."""
        layout, names = self.layout, ["item", "title", "genres"]
        cut: Callable[[str], list[str]] = _cut_csv if layout.header else lambda line: line.split(layout.movie_separator)
        expected = FIELDS_BEFORE_FLAGS + len(FLAGGED_GENRES) if layout.flags else len(names)
        for number, line in self._lines():
            if number == 1 and layout.header:
                names = header_fields(line.encode(), HEADER_NAMES, self.text)
                expected = len(names)
                continue
            fields = cut(line)
            if len(fields) != expected:
                many = "few" if len(fields) < expected else "many"
                bad.add(self.text.shown, number, f"too {many} fields: {len(fields)}, not {expected}")
            elif layout.flags:
                yield number, fields[0], fields[1], _flagged(fields[FIELDS_BEFORE_FLAGS:])
            else:
                row = dict(zip(names, fields, strict=True))
                yield number, row["item"].strip(), row["title"], row["genres"].split("|")

    def _lines(self) -> Iterator[tuple[int, str]]:
        for first, block in line_blocks(self.text.path, member=self.text.member):
            text = block.decode(self.layout.encoding, "replace")
            for number, line in enumerate(text.split("\n"), start=first):
                if line.strip():
                    yield number, line.rstrip("\r")


def _cut_csv(line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error:
        return []


def _flagged(flags: list[str]) -> list[str]:
    return [genre for genre, flag in zip(FLAGGED_GENRES, flags, strict=True) if flag.strip() == "1"]


def _known(genres: list[str]) -> list[str] | None:
    """Each genre once, in its order; None if there is none."""
    stripped = (genre.strip() for genre in genres)
    return [*dict.fromkeys(genre for genre in stripped if genre and genre not in NO_GENRE)] or None
