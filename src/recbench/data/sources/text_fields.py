"""Lines of a text table as fields, one line after the other: for those blocks in which something is wrong, or unusual.

What is usual goes through Polars (``text_table``). Here a row that has too many or too few fields is named, and a quote is read as
what it is: the begin of a quoted field, or a part of the text, as in ``12" vinyl``.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from itertools import chain

from recbench.data.sources.separators import BLANKS

#: ``data.quote=auto``: double quotes, where they make sense.
AUTO = "auto"
#: A quoted field may run over so many lines before it is taken for one that is never closed.
MOST_LINES = 10_000
#: Characters of a field.
LONGEST_FIELD = 1 << 27


class Fields:
    """Cuts lines into ``n`` fields. as_text: lines whose quotes were read as text; first_as_text: the first of them."""

    def __init__(self, n: int, separator: str, quote: str | None, encoding: str) -> None:
        self.n, self.separator, self.quote, self.encoding = n, separator, quote, encoding
        self.as_text, self.first_as_text = 0, 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        csv.field_size_limit(LONGEST_FIELD)

    def rows(
        self, lines: Iterator[tuple[int, bytes]], further: Iterator[tuple[int, bytes]]
    ) -> Iterator[tuple[int, list[str], str | None]]:
        """(number of its first line, fields, what is wrong with it) of every row. Lines without an end; empty lines are no rows.

        further: the lines that follow; taken only where a quoted field goes on.
        """
        together = chain(lines, further)
        waiting = self._waiting
        while True:
            if waiting:
                number, raw = waiting.popleft()
            elif (found := next(lines, None)) is not None:
                number, raw = found
            else:
                return
            if not raw.strip(b" \r"):
                continue
            try:
                line = raw.decode().removesuffix("\r")
            except UnicodeDecodeError as error:
                yield number, [], self.undecodable(raw, error)
                continue
            yield number, *self._row(number, line, together)

    def split(self, line: str) -> list[str]:
        """The fields of a line in which quotes mean nothing."""
        return line.split() if self.separator == BLANKS else line.split(self.separator)

    def _row(self, number: int, line: str, lines: Iterator[tuple[int, bytes]]) -> tuple[list[str], str | None]:
        plain = self.split(line)
        if self.quote is None or self._mark not in line or len(self.separator) > 1:
            return plain, self._miscount(plain)
        try:
            fields = next(csv.reader([line], delimiter=self.separator, quotechar=self._mark, strict=True))
        except csv.Error:
            return self._open_quote(number, line, plain, lines)
        if len(fields) != self.n and len(plain) == self.n and self.quote == AUTO:
            return self._text(number, plain)
        return fields, self._miscount(fields)

    def _open_quote(
        self, number: int, line: str, plain: list[str], lines: Iterator[tuple[int, bytes]]
    ) -> tuple[list[str], str | None]:
        """A row whose quotes do not end with the line: text, or a field that runs over several lines."""
        joined, more = self._joined(line, lines)
        is_row = len(plain) == self.n
        if joined is not None:
            alike = [len(self.split(text)) == self.n for text in more]
            if self.quote != AUTO or (len(joined) == self.n and not any(alike)):
                for _ in more:
                    self._waiting.popleft()
                return joined, self._miscount(joined)
            if not (is_row and all(alike)) and len(joined) == self.n:
                last = self._waiting[len(more) - 1][0]
                return [], (
                    f"a quoted field runs over lines that look like rows: to line {last} (data.quote=null reads quotes as text, "
                    "data.quote='\"' as quotes)"
                )
        if is_row and self.quote == AUTO:
            return self._text(number, plain)
        return [], "a quote that is not closed: data.quote=null reads quotes as text"

    def _joined(self, line: str, lines: Iterator[tuple[int, bytes]]) -> tuple[list[str] | None, list[str]]:
        """The fields of a row that starts with ``line`` and goes on until its quotes are closed, and the lines that it took; they are
        still waiting. None if it never closes."""
        more: list[str] = []

        def feed() -> Iterator[str]:
            yield line + "\n"
            while len(more) < MOST_LINES:
                if len(more) == len(self._waiting):
                    found = next(lines, None)
                    if found is None:
                        return
                    self._waiting.append(found)
                text = self._waiting[len(more)][1].decode("utf-8", "replace").removesuffix("\r")
                more.append(text)
                yield text + "\n"

        try:
            fields = next(csv.reader(feed(), delimiter=self.separator, quotechar=self._mark, strict=True))
        except (csv.Error, StopIteration):
            return None, more
        return fields, more

    @property
    def _mark(self) -> str:
        return '"' if self.quote == AUTO or self.quote is None else self.quote

    def _text(self, number: int, fields: list[str]) -> tuple[list[str], None]:
        self.as_text += 1
        self.first_as_text = self.first_as_text or number
        return fields, None

    def _miscount(self, fields: list[str]) -> str | None:
        if len(fields) == self.n:
            return None
        kind = "too few fields" if len(fields) < self.n else "too many fields"
        return f"{kind}: {len(fields)}, not {self.n}"

    def undecodable(self, raw: bytes, error: UnicodeDecodeError) -> str:
        """What is wrong with a line that has a byte of another encoding."""
        byte = raw[error.start]
        # Western European text from Windows uses these for quotes, dashes and the like.
        likely = "cp1252" if 0x80 <= byte < 0xA0 else "latin-1"
        return f"not {self.encoding}: byte 0x{byte:02x}, number {error.start + 1} of the line (data.encoding={likely}, or what it is)"
