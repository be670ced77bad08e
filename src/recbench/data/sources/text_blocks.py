"""The blocks of a text file, of which a reader may also take single lines ahead, and what can be seen of a block without parsing it.

A block in which every line has the separators that it should have, and no quote is left open, is read by Polars; any other is cut line by
line (``text_fields``).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recbench.data.sources.raw_lines import PIECE


class Blocks:
    """``for first, block in blocks``: blocks of whole lines, with the number of their first line."""

    def __init__(self, blocks: Iterator[tuple[int, bytes]]) -> None:
        self._blocks = blocks
        self._rest: tuple[int, bytes, int] | None = None

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while (found := self._next()) is not None:
            yield found

    def further(self) -> Iterator[tuple[int, bytes]]:
        """(number, line without its end) of the lines that follow; what is taken here, no later block has."""
        while True:
            if self._rest is None:
                found = next(self._blocks, None)
                if found is None:
                    return
                self._rest = (*found, 0)
            number, block, at = self._rest
            end = block.index(b"\n", at)
            self._rest = (number + 1, block, end + 1) if end + 1 < len(block) else None
            yield number, block[at:end]

    def _next(self) -> tuple[int, bytes] | None:
        if self._rest is None:
            return next(self._blocks, None)
        number, block, at = self._rest
        self._rest = None
        return number, block[at:]


def lines_of(first: int, block: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, line without its end) of every line of a block."""
    yield from enumerate(block.removesuffix(b"\n").split(b"\n"), start=first)


def regular_lines(block: bytes, separator: bytes, n_fields: int, quote: bytes | None) -> int | None:
    """The number of lines if every one could be a row of ``n_fields`` fields: none is empty, none leaves a quote open, and together they have as
    many separators, outside quotes, as such rows need; otherwise None.

    >>> regular_lines(b"a,b\\nc,d\\n", b",", 2, b'"'), regular_lines(b'a,"b\\nc",d\\n', b",", 2, b'"'), regular_lines(b"a,b\\nc\\n", b",", 2, None)
    (2, None, None)
    """
    if block.startswith((b"\n", b"\r\n")) or (b"\r" in block and b"\n\r\n" in block):
        return None
    values = np.frombuffer(block, np.uint8)
    quoted = quote is not None and quote in block
    lines = separators = odd = 0
    after_end = False
    for at in range(0, len(values), PIECE):
        part = values[at : at + PIECE]
        ends, cuts = part == ord("\n"), part == separator[0]
        if (after_end and ends[0]) or (ends[1:] & ends[:-1]).any():
            return None  # an empty line
        after_end = bool(ends[-1])
        if quoted:
            assert quote is not None
            # True behind an opening quote, False behind a closing one.
            inside = np.bitwise_xor.accumulate(part == quote[0])
            inside ^= bool(odd)
            odd = int(inside[-1])
            if (ends & inside).any():
                return None
            cuts &= ~inside
        lines += int(np.count_nonzero(ends))
        separators += int(np.count_nonzero(cuts))
    return lines if separators == lines * (n_fields - 1) else None
