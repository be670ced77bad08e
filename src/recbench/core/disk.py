"""Failures of the disk as one clear line: full, read-only, not ours to write."""

from __future__ import annotations

import errno
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
