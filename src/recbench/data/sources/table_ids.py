"""Ids that look like a slip: words for a missing value, blanks at the ends, ``7.0`` beside ``7``, characters that nobody sees."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import polars as pl

from recbench.data.events import batches
from recbench.data.sources.raw_lines import shown

log = logging.getLogger(__name__)

MISSING = r"(?i)^(nan|null|none|nil|n/?a|<na>|#n/a|nat|\\n|undefined)$"
INVISIBLE = r"[\x00-\x08\x0a-\x1f\x7f\x{200b}\x{feff}]"
BLANKS = r"^\s|\s$"
#: Nothing, or nothing but blanks.
BARE = r"^\s*$"
WHOLE = r"^-?\d+\.0+$"
#: All of the above in one look.
ODD = rf"(?i)^(nan|null|none|nil|n/?a|<na>|#n/a|nat|\\n|undefined)$|{INVISIBLE}|{BLANKS}|\.0+$"


def tidy(column: pl.Expr) -> pl.Expr:
    """Ids without blanks at their ends, and ``7`` for ``7.0`` (``data.tidy_ids``)."""
    return column.str.strip_chars().str.replace(r"^(-?\d+)\.0+$", "${1}")


class IdCheck:
    """Counts odd ids of one column, ``user`` or ``item``, batch by batch."""

    def __init__(self, column: str) -> None:
        self.column = column
        self.missing: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self._kinds: dict[str, pl.Series] = {}

    def add(self, path: Path, frame: pl.DataFrame) -> None:
        """Good rows: ``line``, the column, and whether its id is an odd one."""
        if not frame[f"odd_{self.column}"].any():
            return
        odd = frame.filter(f"odd_{self.column}").select("line", id=self.column)
        for kind, pattern in (("missing", MISSING), ("invisible", INVISIBLE), ("blanks", BLANKS), ("whole", WHOLE)):
            rows = odd.filter(pl.col("id").str.contains(pattern))
            if rows.is_empty():
                continue
            self.rows[kind] += rows.height
            self.first.setdefault(kind, f"{path.name} line {rows['line'][0]}: {shown(repr(rows['id'][0]))}")
            if kind == "missing":
                self.missing.update(dict(rows["id"].value_counts().iter_rows()))
            else:
                known = self._kinds.get(kind, pl.Series([], dtype=pl.String))
                self._kinds[kind] = pl.concat([known, rows["id"].rename("").unique()]).unique()

    def report(self, spool: Path) -> dict[str, int]:
        """Warn of what was found, one line each; counts for the records. spool: the rows, to look for the other form of an id."""
        counts = {}
        if self.missing:
            words = ", ".join(f"{shown(word)} ({rows:,})" for word, rows in self.missing.most_common(8))
            log.warning(
                "rows with a word for a missing value as %s, which counts as an id: %s, as %s; first: %s; data.missing_ids=drop drops such rows",
                self.column,
                f"{self.rows['missing']:,}",
                words,
                self.first["missing"],
            )
            counts[f"rows_{self.column}_like_missing"] = self.rows["missing"]
        if self.rows["invisible"]:
            log.warning(
                "rows with a control character, or one of no width, in the %s: %s; first: %s",
                self.column,
                f"{self.rows['invisible']:,}",
                self.first["invisible"],
            )
            counts[f"rows_{self.column}_with_invisible_characters"] = self.rows["invisible"]
        for kind, words in (("blanks", "blanks at their ends"), ("whole", ".0 at their end")):
            if kind not in self._kinds:
                continue
            pairs = self._pairs(kind, spool)
            if pairs:
                odd, plain = pairs[0]
                log.warning(
                    "%ss that differ from another only by %s, and count as two: %s, such as '%s' and '%s'; data.tidy_ids=true makes them one",
                    self.column,
                    words,
                    f"{len(pairs):,}",
                    shown(odd),
                    shown(plain),
                )
                counts[f"{self.column}s_differing_by_{'blanks' if kind == 'blanks' else 'point_zero'}"] = len(pairs)
        return counts

    def _pairs(self, kind: str, spool: Path) -> list[tuple[str, str]]:
        """(odd id, the id that it would be) of those whose other form occurs too."""
        frame = pl.DataFrame({"odd": self._kinds[kind].sort()})
        plain = pl.col("odd").str.strip_chars() if kind == "blanks" else tidy(pl.col("odd"))
        frame = frame.with_columns(plain=plain)
        present = pl.concat(
            [pl.Series([], dtype=pl.String)]
            + [
                batch[self.column].filter(batch[self.column].is_in(frame["plain"].implode())).unique().rename("")
                for batch in batches(spool, [self.column])
            ]
        ).unique()
        # Two odd forms of one id differ by blanks alone as well.
        again = frame["plain"].is_duplicated()
        return frame.filter(frame["plain"].is_in(present.implode()) | again).rows()
