"""Files and folders that are written whole or not at all, and failures of the disk as one clear line."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.core.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
#: What libraries say whose errors have no number: safetensors, Polars, SQLite, NumPy, torch. SQLite's "disk I/O error" is a file that may not grow:
#: a quota, or a limit on its length.
_SAID_FULL = re.compile(
    r"No space left on device|File too large|[Dd]isk quota exceeded|database or disk is full|disk I/O error|\b\d+ requested and \d+ written"
    r"|PytorchStreamWriter failed writing|unexpected pos \d+"
)
#: Bytes of free space below which a failed write is put down to a full disk.
NEARLY_NOTHING = 2**16


class DiskFull(UserError):
    """Nothing more can be written in some place. What was made by then is whole, so the same command goes on once there is space."""


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that a disk is full, or a file longer than it may be."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, DiskFull) or getattr(error, "errno", None) in _FULL or _SAID_FULL.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def explained(error: Exception) -> UserError | None:
    """The line for an error that came through to the end of a command and says that a disk is full; None for any other."""
    if isinstance(error, UserError) or not is_full(error):
        return None
    place = getattr(error, "filename", None)
    where = f": cannot write {place}" if place else ""
    reason = next((line for line in str(error).splitlines() if _SAID_FULL.search(line)), "").strip()[:200]
    return DiskFull(
        f"the disk is full{where or (f' ({reason})' if reason else '')}; free some space, then the same command goes on"
    )


@contextmanager
def disk_errors(folder: Path, setting: str) -> Iterator[None]:
    """Turn an error that says "full" or "forbidden" into a UserError that names the folder and the setting to change.

    Any other error passes: it is not known to be the user's to mend. Polars wraps some write errors in its own class
    and keeps only the text, so the text is looked at as well.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = str(error)
        if is_full(error):
            raise DiskFull(
                f"the disk is full under {folder}; free some space or set {setting} to another disk"
            ) from error
        if (
            getattr(error, "errno", None) in _FORBIDDEN
            or "Permission denied" in text
            or "Read-only file system" in text
        ):
            filename = getattr(error, "filename", None)
            if filename is not None and not Path(filename).is_relative_to(folder):
                raise UserError(f"cannot open {filename}: {text}") from error
            raise UserError(
                f"cannot write under {folder} ({text}); set {setting} to a folder you may write to"
            ) from error
        raise


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well, and vanishes otherwise.

    A reader sees the old file or the new one, never half of one; of several writers the last one wins. Raises OSError with the number of a full
    disk where the disk is full, in whatever words a library says it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except Exception as error:
        # Asked before the half-written file goes: it may be what fills the disk.
        if is_full(error) or (not isinstance(error, OSError | UserError) and _is_nearly_full(path.parent)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _is_nearly_full(folder: Path) -> bool:
    return folder.is_dir() and shutil.disk_usage(folder).free < NEARLY_NOTHING


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A working folder, not made yet, beside ``folder`` that gets its name when the block ends well, and vanishes otherwise.

    Raises OSError if ``folder`` is there by then and not empty.
    """
    working = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        yield working
        os.rename(working, folder)
    finally:
        shutil.rmtree(working, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove ``folder`` and the working folders that killed processes left beside it. Call it with the lock of the folder held."""
    for leftover in (folder, *folder.parent.glob(f".{folder.name}.*")):
        if leftover.is_dir():
            shutil.rmtree(leftover)


def forget_pages(array: np.ndarray) -> None:
    """Let go of the pages of a mapped file that stand in memory; the file keeps what was written to them. Nothing happens to other arrays.

    The kernel would take them back when it needs them; until then they count as memory of this process, and a container's limit knows no difference.
    """
    import mmap

    import numpy as np

    mapped: Any = array
    while isinstance(mapped, np.ndarray):
        if getattr(mapped, "mode", None) == "c":  # changes live in memory alone
            return
        mapped = mapped.base
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def save_array(path: Path, array: np.ndarray, rows: int = 1 << 22) -> None:
    """The bytes of ``np.save``, so many rows at a time: of a mapped array no more than these stand in memory."""
    import numpy as np

    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        for first in range(0, len(array), rows):
            array[first : first + rows].tofile(file)
            forget_pages(array)


def new_array(path: Path, kind: Any, shape: tuple[int, ...]) -> np.memmap:
    """A new ``.npy`` file, mapped into memory, all zeros, with its space reserved.

    To write into a map that the disk cannot hold would kill the process, without a word. Raises OSError where the disk is full.
    """
    import numpy as np

    array = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno in _FULL:
                    raise OSError(error.errno, error.strerror, str(path)) from error
    return array
