"""A folder that is made once, whole, however many processes want it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from recbench.core.disk import remove_leftovers, whole_folder
from recbench.data.prepared import read_manifest

log = logging.getLogger(__name__)


def build_once(folder: Path, build: Callable[[Path], None], reading: int = 1) -> None:
    """Make the prepared data set ``folder`` with ``build(working folder)`` unless it is there already.

    reading: the rules by which its files are read. What was prepared by older ones is made anew, since the same files may give other data.

    Of two processes that ask at once, one builds and the other waits and reuses. A folder gets its name only when it is
    complete; what a killed process left behind is removed by the next one.
    """
    from filelock import FileLock, Timeout

    if _is_made(folder, reading):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is preparing %s; waiting for it", folder.name)
        lock.acquire()
    try:
        if _is_made(folder, reading):
            return
        if read_manifest(folder) is not None:
            log.info("reading %s anew: it was prepared by an older version", folder.name)
            shutil.rmtree(folder)
        # We hold the lock, so whoever made these is gone: a half-made folder, or one of another format.
        remove_leftovers(folder)
        with whole_folder(folder) as working:
            build(working)
    finally:
        lock.release()


def _is_made(folder: Path, reading: int) -> bool:
    manifest = read_manifest(folder)
    return manifest is not None and manifest.get("reading", 1) >= reading
