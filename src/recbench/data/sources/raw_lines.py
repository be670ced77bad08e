"""Blocks of whole lines from a text file, plain, gzip or in a zip archive, never holding more than a few blocks of it.

The next block is unpacked in a thread while the caller parses the last one: zlib lets go of the interpreter lock.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from recbench.core.errors import UserError
from recbench.core.transfer_bar import Progress
from recbench.data.sources.zip_members import MEMBER_DAMAGE, member_damage, open_member

BLOCK_BYTES = 16 << 20

#: A packed file may grow to this many times its size, and to so many bytes in any case. Real logs grow four to thirty times; what grows a
#: thousand times is zeros, sent to fill a disk.
MOST_GROWTH, ALWAYS_ALLOWED = 200, 1 << 28
#: Bytes of a line, which is held in memory whole.
LONGEST_LINE = 1 << 28


@dataclass(frozen=True)
class RawText:
    """A text file: plain or gzip, or the member ``member`` of the zip archive ``path``."""

    path: Path
    member: str | None = None

    @property
    def shown(self) -> Path:
        """Where the file is, for messages."""
        return self.path / self.member if self.member else self.path


class BadRows:
    """What to do about a row that cannot be used: stop and name it, or count it and go on (``data.bad_rows``)."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.counts: Counter[str] = Counter()

    def add(self, path: Path, line: int, reason: str) -> None:
        """Under "error" raises UserError naming file, line (from 1) and reason; under "skip" counts the row."""
        if self.policy == "error":
            raise UserError(
                f"{path.name} line {line}: {shown(reason)}; mend it, or set data.bad_rows=skip to drop such rows ({path})"
            )
        # Only what stands before the colon is the kind of problem; the rest is this row's own value.
        self.counts[f"rows_rejected_{reason.split(':')[0].replace(' ', '_')}"] += 1


def shown(text: str, longest: int = 200) -> str:
    """A value from a file as part of a message: one line, not too long, and nothing that steers a terminal."""
    cut = text if len(text) <= longest else f"{text[:longest]}... ({len(text):,} characters)"
    return "".join(c if c.isprintable() else "?" for c in cut)


def is_gzip(path: Path) -> bool:
    return path.suffix == ".gz"


def line_blocks(path: Path, size: int | None = None, member: str | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line, block of whole lines), about ``size`` bytes each; lines count from 1.

    size: BLOCK_BYTES if None. member: the file is that member of the zip archive ``path``. A last line without an end
    is given one. Raises UserError if a gzip file or a zip archive is cut short, damaged or not what its name says.
    """
    line, rest = 1, b""
    for piece in _pieces(path, size or BLOCK_BYTES, member):
        cut = piece.rfind(b"\n") + 1
        if cut == 0:
            rest += piece
            if len(rest) > LONGEST_LINE:
                raise UserError(
                    f"{path} line {line}: more than {LONGEST_LINE:,} bytes without an end; this is no text of lines"
                )
            continue
        block = rest + piece[:cut]
        rest = piece[cut:]
        yield line, block
        line += block.count(b"\n")
    if rest:
        yield line, rest + b"\n"


def unpack(path: Path, to: Path) -> Path:
    """Write the unpacked text of a gzip file to ``to``; same errors as ``line_blocks``."""
    with to.open("wb") as out:
        for piece in _pieces(path, BLOCK_BYTES):
            out.write(piece)
    return to


def _pieces(path: Path, size: int, member: str | None = None) -> Iterator[bytes]:
    with (
        path.open("rb") as file,
        Progress(f"reading {path.name}", path.stat().st_size) as progress,
        ThreadPoolExecutor(1) as reader,
    ):
        handle = _unpacking(file, path, member)
        # Only what is packed can be much longer than it is.
        most = max(ALWAYS_ALLOWED, MOST_GROWTH * path.stat().st_size) if member or is_gzip(path) else None
        unpacked = 0
        try:
            ahead = reader.submit(handle.read, size)
            while piece := ahead.result():
                unpacked += len(piece)
                if most is not None and unpacked > most:
                    raise UserError(
                        f"{path} unpacks to more than {MOST_GROWTH} times its size, as a file made to fill the disk does; if you trust it, "
                        "unpack it yourself and name the unpacked file"
                    )
                ahead = reader.submit(handle.read, size)
                yield piece
                progress.to(file.tell())
        except (gzip.BadGzipFile, *MEMBER_DAMAGE) as error:
            raise (member_damage(path, member, error) if member else UserError(_damage(path, error))) from error


def _unpacking(file: IO[bytes], path: Path, member: str | None) -> IO[bytes]:
    if member is not None:
        return open_member(file, path, member)
    return gzip.GzipFile(fileobj=file) if is_gzip(path) else file  # type: ignore[return-value]


def _damage(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        head = file.read(2)
    if head != b"\x1f\x8b":
        return f"{path} is not a gzip file, whatever its name says; delete it and fetch it again"
    how = "is cut short" if isinstance(error, EOFError) else f"is damaged ({error})"
    return f"{path} {how}: {_readable_lines(path):,} rows can be read from it; delete it and fetch it again"


def _readable_lines(path: Path) -> int:
    """Whole lines before the damage. Counted apart, since the gzip reader drops what it holds when it fails."""
    lines = 0
    with path.open("rb") as file:
        decompress = zlib.decompressobj(wbits=31)
        while block := file.read(1 << 16):
            while block:
                try:
                    lines += decompress.decompress(block).count(b"\n")
                except zlib.error:
                    return lines
                block = decompress.unused_data
                if decompress.eof:
                    decompress = zlib.decompressobj(wbits=31)
    return lines
