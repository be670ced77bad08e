"""Files and folders that are written whole or not at all, and failures of the disk as one clear line."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recbench.core.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


@contextmanager
def disk_errors(folder: Path, setting: str) -> Iterator[None]:
    """Turn an OSError that says "full" or "forbidden" into a UserError that names the folder and the setting to change.

    Any other OSError passes: it is not known to be the user's to mend. Polars wraps some write errors in its own class
    and keeps only the text, so the text is looked at as well.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = getattr(error, "errno", None)
        text = str(error)
        if number in _FULL or "No space left on device" in text or "File too large" in text:
            raise UserError(
                f"the disk is full under {folder}; free some space or set {setting} to another disk"
            ) from error
        if number in _FORBIDDEN or "Permission denied" in text or "Read-only file system" in text:
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

    A reader sees the old file or the new one, never half of one; of several writers the last one wins.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
