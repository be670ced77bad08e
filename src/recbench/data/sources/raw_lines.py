"""Blocks of whole lines from a text file, plain, packed (gzip, bz2, xz) or in a zip archive, never holding more than a few blocks of it.

The next block is unpacked in a thread while the caller parses the last one: zlib lets go of the interpreter lock.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from recbench.core.errors import UserError
from recbench.core.transfer_bar import Progress
from recbench.data.sources.zip_members import MEMBER_DAMAGE, member_damage, open_member

BLOCK_BYTES = 16 << 20
#: Bytes that are looked at together: they fit a processor's cache.
PIECE = 1 << 17

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
    """What to do about a row that cannot be used: stop and name it, or count it and go on (``data.bad_rows``).

    total: how many rows were counted. first: the first of them, in words.
    """

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.counts: Counter[str] = Counter()
        self.total = 0
        self.first = ""

    def add(self, path: Path, line: int, reason: str, hint: str = "", unit: str = "line") -> None:
        """Under "error" raises UserError naming file, line (from 1) and reason; under "skip" counts the row.

        hint: a further way to mend it. unit: what is counted, a row in a file that has no lines.
        """
        if self.policy == "error":
            raise UserError(
                f"{path.name} {unit} {line}: {shown(reason)}; mend it, {hint}or set data.bad_rows=skip to drop such rows ({path})"
            )
        # Only what stands before the colon is the kind of problem; the rest is this row's own value.
        self.count(reason.split(":")[0], 1, f"{path.name} {unit} {line}: {shown(reason)}")

    def count(self, kind: str, rows: int, example: str) -> None:
        """Count so many rows of a kind of problem."""
        self.counts[f"rows_rejected_{kind.replace(' ', '_')}"] += rows
        self.total += rows
        self.first = self.first or example


def shown(text: str, longest: int = 200) -> str:
    """A value from a file as part of a message: one line, not too long, and nothing that steers a terminal."""
    cut = text if len(text) <= longest else f"{text[:longest]}... ({len(text):,} characters)"
    return "".join(c if c.isprintable() else "?" for c in cut)


def is_gzip(path: Path) -> bool:
    return path.suffix == ".gz"


#: How a packed file may start, and the ending that says so.
PACKED = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\x00"}


def packing(path: Path) -> str | None:
    """``.gz``, ``.bz2`` or ``.xz``, by the name of a file or else by its first bytes; None for a plain file.

    Raises UserError for a file packed in another way.
    """
    if path.suffix.lower() in PACKED:
        return path.suffix.lower()
    with path.open("rb") as file:
        head = file.read(6)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        raise UserError(f"{path} is packed with zstd, which cannot be read here; unpack it, or pack it with gzip")
    return next((ending for ending, start in PACKED.items() if head.startswith(start)), None)


def line_blocks(
    path: Path, size: int | None = None, member: str | None = None, encoding: str | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line, block of whole lines), about ``size`` bytes each; lines count from 1.

    size: BLOCK_BYTES if None. member: the file is that member of the zip archive ``path``. A last line without an end
    is given one. encoding: of the file, which is then turned into UTF-8; lines may also end as on an old Macintosh. None: bytes
    as they are. Raises UserError if a packed file or a zip archive is cut short, damaged or not what its name says, and for
    bytes that are not of the encoding.
    """
    line, rest = 1, b""
    pieces = _pieces(path, size or BLOCK_BYTES, member)
    for piece in pieces if encoding is None else _as_utf8(pieces, path, encoding):
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
        line += _lines(block)
    if rest:
        yield line, rest + b"\n"


def _lines(block: bytes) -> int:
    """By numpy, in pieces that fit a cache: where lines are short, in a third of the time of ``bytes.count``."""
    values = np.frombuffer(block, np.uint8)
    return sum(int(np.count_nonzero(values[at : at + PIECE] == ord("\n"))) for at in range(0, len(values), PIECE))


def unpack(path: Path, to: Path) -> Path:
    """Write the unpacked text of a packed file to ``to``; same errors as ``line_blocks``."""
    with to.open("wb") as out:
        for piece in _pieces(path, BLOCK_BYTES):
            out.write(piece)
    return to


def _as_utf8(pieces: Iterator[bytes], path: Path, encoding: str) -> Iterator[bytes]:
    """The same text in UTF-8 without a byte order mark, its lines ended by ``\\n``. Text in UTF-8 is not checked here."""
    is_utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")
    decoder = codecs.getincrementaldecoder(encoding)()
    old_mac, lines, first = False, 0, True
    for piece in pieces:
        if is_utf8:
            text = piece.removeprefix(codecs.BOM_UTF8) if first else piece
        else:
            text = _decoded(decoder, piece, path, encoding, lines)
            text = text.removeprefix(codecs.BOM_UTF8) if first else text
        if first:
            old_mac, first = b"\n" not in text and b"\r" in text, False
        text = text.replace(b"\r", b"\n") if old_mac else text
        if not is_utf8:
            lines += text.count(b"\n")
        yield text
    if not is_utf8:
        yield _decoded(decoder, b"", path, encoding, lines)


def _decoded(decoder: codecs.IncrementalDecoder, piece: bytes, path: Path, encoding: str, lines: int) -> bytes:
    try:
        return decoder.decode(piece, final=not piece).encode()
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        before = piece[:start].decode(encoding, "replace").count("\n")
        byte = f" (byte 0x{piece[start]:02x})" if start < len(piece) else ""
        raise UserError(
            f"{path.name} line {lines + before + 1}: this is not {encoding}{byte}; name the encoding with data.encoding ({path})"
        ) from error


def _pieces(path: Path, size: int, member: str | None = None) -> Iterator[bytes]:
    with (
        path.open("rb") as file,
        Progress(f"reading {path.name}", path.stat().st_size) as progress,
        _reading_ahead() as reader,
    ):
        kind = None if member else packing(path)
        handle = open_member(file, path, member) if member else _unpacking(file, kind)
        # Only what is packed can be much longer than it is.
        most = max(ALWAYS_ALLOWED, MOST_GROWTH * path.stat().st_size) if member or kind else None
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
        except (OSError, *MEMBER_DAMAGE) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of the file's content
                raise
            raise (member_damage(path, member, error) if member else UserError(_damage(path, error))) from error


@contextmanager
def _reading_ahead() -> Iterator[ThreadPoolExecutor]:
    """A thread that reads the next piece. It is not waited for: who takes a few lines leaves the rest to the garbage collector, which may close
    this in any thread, even in one that is just being started, and waiting there stops the process for good."""
    reader = ThreadPoolExecutor(1)
    try:
        yield reader
    finally:
        reader.shutdown(wait=False, cancel_futures=True)


def _unpacking(file: IO[bytes], kind: str | None) -> IO[bytes]:
    if kind == ".gz":
        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if kind == ".bz2":
        return bz2.BZ2File(file)
    return lzma.LZMAFile(file) if kind == ".xz" else file


def _damage(path: Path, error: Exception) -> str:
    kind = packing(path) or ".gz"
    with path.open("rb") as file:
        head = file.read(len(PACKED[kind]))
    if head != PACKED[kind]:
        name = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}[kind]
        return f"{path} is not a {name} file, whatever its name says; delete it and fetch it again"
    if kind != ".gz":
        return f"{path} is cut short or damaged ({error}); delete it and fetch it again"
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
