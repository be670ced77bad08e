"""A text table, whatever its ending, packing, encoding and separator, as frames of text.

Polars reads it block by block, and each block is checked: as many rows as lines. Where that fails, the lines of the block are cut one by one, and
bad ones named or counted.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recbench.core.errors import UserError
from recbench.data.sources.raw_lines import BadRows, RawText, line_blocks
from recbench.data.sources.separators import BLANKS, guess, said
from recbench.data.sources.text_blocks import Blocks, lines_of, regular_lines
from recbench.data.sources.text_fields import AUTO, Fields

log = logging.getLogger(__name__)

#: Separators by ending; anything else is guessed.
SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t", ".inter": "\t", ".item": "\t", ".user": "\t"}
#: Bytes of a file, and lines of them, from which its form is told.
HEAD_BYTES, HEAD_LINES = 1 << 18, 50
#: Stands for a separator of several characters while Polars reads.
STAND_IN = b"\x1f"
#: What a typed header says of a column, as RecBole writes it.
TYPED = re.compile(r"(.+):(token|float|token_seq|float_seq)")
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True)
class TextFormat:
    """How a text file is written. separator: None is guessed. header: whether its first line names the columns; if not, they are called "1",
    "2" and so on. quote: around fields; ``auto``: double quotes where they make sense; None: quotes are text."""

    separator: str | None = None
    header: bool = True
    quote: str | None = AUTO
    encoding: str = "utf-8"


class TextTable:
    """Opened at once: its columns are known. ``batches`` reads it. Raises UserError for a file that is no text table."""

    unit = "line"

    def __init__(self, text: RawText, how: TextFormat, names: tuple[str, ...] | None = None) -> None:
        """names: of the columns of a file without a header, as many as there are."""
        self.text, self.how, self.path = text, how, text.shown
        self._computed: dict[str, tuple[pl.Expr, tuple[str, ...]]] = {}
        number, lines = self._head()
        shown_lines = [line for line in lines if line.strip()]
        self.guessed = how.separator is None
        #: Whether the separator is that of the file's ending.
        self.usual = False
        if how.separator is None and (hint := re.fullmatch(r"sep=(.)\r?", lines[0])):  # Excel's own
            self.separator, number, lines = hint[1], number + 1, lines[1:]
            shown_lines = shown_lines[1:]
        else:
            usual = SEPARATORS.get(suffix_of(text))
            self.separator = how.separator or guess(shown_lines[:HEAD_LINES], usual, how.header)
            self.usual = self.separator == usual
            if self.guessed and not self.usual:
                log.info(
                    "%s: taking %s for what separates columns (data.separator names another)",
                    self.path.name,
                    said(self.separator),
                )
        empty = next((at for at, line in enumerate(lines) if line.strip()), 0)
        self.first_line = number + empty + how.header
        cells = self._cells(lines[empty])
        if how.header:
            self.names = cells
        elif names is None:
            self.names = [str(at) for at in range(1, len(cells) + 1)]
        else:
            self.names = [*names[: len(cells)], *(f"column {at}" for at in range(len(names), len(cells)))]
        self.first_lines = shown_lines[:HEAD_LINES]

    @property
    def schema(self) -> pl.Schema:
        kinds: dict[str, type[pl.DataType]] = dict.fromkeys(self.names, pl.String)
        return pl.Schema(kinds | dict.fromkeys(self._computed, pl.Int64))

    def compute(self, name: str, value: pl.Expr, of: tuple[str, ...]) -> None:
        """Add a column of whole numbers that is computed of others."""
        self._computed[name] = (value, of)

    def doubled(self, name: str) -> bool:
        """Whether several columns bear the name."""
        return self.names.count(name) > 1

    def batches(self, columns: list[str], bad: BadRows, size: int | None = None) -> Iterator[pl.DataFrame]:
        """Frames with the number of each row's ``line``, then the columns, all text; what is missing at the end of a line is a bad row.

        Raises UserError for a bad row unless such rows are counted.
        """
        computed = {name: self._computed[name] for name in columns if name in self._computed}
        own = [
            *(name for name in columns if name not in computed),
            *(name for _, of in computed.values() for name in of),
        ]
        wanted = {name: self.names.index(name) for name in own}
        fields = Fields(len(self.names), self.separator, self.how.quote, self.how.encoding.upper())
        blocks = Blocks(self._blocks(size))
        for first, block in blocks:
            if first < self.first_line:
                skipped = self.first_line - first
                at = 0
                for _ in range(skipped):
                    at = block.index(b"\n", at) + 1
                first, block = self.first_line, block[at:]
                if not block:
                    continue
            frame = self._regular(first, block, wanted)
            if frame is None:
                frame = self._line_by_line(first, block, blocks, wanted, fields, bad)
            yield frame.with_columns(**{name: value for name, (value, _) in computed.items()}) if computed else frame
        if fields.as_text:
            log.warning(
                "%s: quotes in %s lines, first in line %d, are read as text, not as the begin of a quoted field "
                "(data.quote=null reads all quotes so)",
                self.path.name,
                f"{fields.as_text:,}",
                fields.first_as_text,
            )

    def _blocks(self, size: int | None = None) -> Iterator[tuple[int, bytes]]:
        return line_blocks(self.text.path, size, self.text.member, self.how.encoding)

    def _head(self) -> tuple[int, list[str]]:
        """(number of the first, the first lines). Raises UserError for what is no text, and for text in another encoding."""
        blocks = line_blocks(self.text.path, HEAD_BYTES, self.text.member)
        _, raw = next(blocks, (1, b""))
        self._refuse_other_encoding(raw)
        if self.how.encoding.lower().replace("-", "") not in ("utf8", "utf8sig"):
            _, raw = next(self._blocks(HEAD_BYTES), (1, b""))
        if not raw.strip():
            raise UserError(f"{self.path} cannot be read as a table: the file is empty")
        cut = raw.removeprefix(b"\xef\xbb\xbf")
        cut = cut.replace(b"\r", b"\n") if b"\r" in cut and b"\n" not in cut.rstrip(b"\n") else cut
        lines = cut.split(b"\n")[: 2 * HEAD_LINES]
        try:
            first = [line.decode().removesuffix("\r") for line in lines[:1]]
        except UnicodeDecodeError as error:
            if self.how.header:
                wrong = Fields(1, ",", None, self.how.encoding.upper()).undecodable(lines[0], error)
                raise UserError(f"{self.path.name} line 1: {wrong} ({self.path})") from error
            first = [lines[0].decode("utf-8", "replace").removesuffix("\r")]
        return 1, first + [line.decode("utf-8", "replace").removesuffix("\r") for line in lines[1:]]

    def _refuse_other_encoding(self, raw: bytes) -> None:
        """Raises UserError for UTF-16 that is read as something else, and for what is no text."""
        encoding = self.how.encoding.lower()
        if encoding.startswith(("utf-16", "utf16", "utf-32", "utf32", "ucs")):
            return
        mark = MARKS.get(raw[:2])
        nul = raw[:1000].find(b"\0")
        if mark is None and nul >= 0 and raw[:1000].count(b"\0") > len(raw[:1000]) // 4:
            mark = "utf-16-be" if nul % 2 == 0 else "utf-16-le"
        if mark is not None:
            at = 0 if raw[:2] in MARKS else nul
            raise UserError(
                f"{self.path.name} line 1: byte 0x{raw[at]:02x}, number {at + 1} of the file, shows that this is UTF-16, not "
                f"{encoding.upper()}; set data.encoding={mark} ({self.path})"
            )

    def _cells(self, line: str) -> list[str]:
        """The fields of a line near the head, without blanks around them."""
        if self.separator == BLANKS:
            return line.split()
        if len(self.separator) > 1 or self.how.quote is None:
            return [cell.strip() if self.how.header else cell for cell in line.split(self.separator)]
        mark = '"' if self.how.quote == AUTO else self.how.quote
        cells = next(csv.reader([line], delimiter=self.separator, quotechar=mark), [""])
        return [cell.strip() if self.how.header else cell for cell in cells]

    def _regular(self, first: int, block: bytes, wanted: dict[str, int]) -> pl.DataFrame | None:
        """The block by Polars; None if it is not a row a line, or has anything else about it."""
        separator = self.separator.encode()
        if self.separator == BLANKS:
            if STAND_IN in block:
                return None
            block = re.sub(
                rb"[ \t]+(?=[^\r\n \t])", STAND_IN, re.sub(rb"(?m)^[ \t]+|[ \t]+$|[ \t]+(?=\r$)", b"", block)
            )
            separator = STAND_IN
        elif len(separator) > 1:
            if STAND_IN in block:
                return None
            block, separator = block.replace(separator, STAND_IN), STAND_IN
        mark = None
        if self.how.quote is not None and len(self.separator) == 1:
            mark = '"' if self.how.quote == AUTO else self.how.quote
            mark = mark if mark.encode() in block else None
        lines = regular_lines(block, separator, len(self.names), mark.encode() if mark else None)
        if lines is None:
            return None
        kinds = {f"c{at}": pl.String for at in range(len(self.names))}
        try:
            frame = pl.read_csv(
                block,
                has_header=False,
                separator=separator.decode(),
                quote_char=mark,
                schema=kinds,
                columns=sorted(set(wanted.values())),
                empty_string_is_null=False,
            )
        except pl.exceptions.PolarsError:
            return None
        if frame.height != lines:
            return None
        return frame.select(
            pl.int_range(first, first + pl.len(), dtype=pl.Int64).alias("line"),
            **{name: pl.col(f"c{at}") for name, at in wanted.items()},
        )

    def _line_by_line(
        self, first: int, block: bytes, blocks: Blocks, wanted: dict[str, int], fields: Fields, bad: BadRows
    ) -> pl.DataFrame:
        """The block as ``Fields`` cuts it, with what a quoted field takes of the next one."""
        numbers: list[int] = []
        columns: dict[str, list[str]] = {name: [] for name in wanted}
        appends: list[tuple[Callable[[str], None], int]] = [(columns[name].append, at) for name, at in wanted.items()]
        hint = f"say what separates columns with data.separator (now {said(self.separator)}), " if self.guessed else ""
        for number, found, wrong in fields.rows(lines_of(first, block), blocks.further()):
            if wrong is not None:
                bad.add(self.path, number, wrong, hint if "fields" in wrong else "")
                continue
            numbers.append(number)
            for append, at in appends:
                append(found[at])
        return pl.DataFrame(
            {"line": pl.Series(numbers, dtype=pl.Int64)}
            | {name: pl.Series(values, dtype=pl.String) for name, values in columns.items()}
        )


def suffix_of(text: RawText) -> str:
    """ ".csv" of events.csv, events.csv.gz and of a member called so."""
    name = Path(text.member or text.path.name)
    packed = name.suffix.lower() in (".gz", ".bz2", ".xz", ".zip") and not text.member
    return Path(name.stem if packed else name).suffix.lower()
