"""Folders that one process has for itself while it works: a new one where the name is free, or an old one under a lock.

The lock is the operating system's, on the folder itself: it leaves no file, and is free again as soon as its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import logging
import os
from dataclasses import dataclass
from itertools import count
from pathlib import Path

logger = logging.getLogger(__name__)


def claim(folder: Path) -> Path:
    """Make a folder that nobody else has: ``folder`` itself, or where another process was quicker ``folder-2`` and so on. Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        own = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            own.mkdir()
        except FileExistsError:
            continue
        return own
    raise AssertionError("there is always a next number")


@dataclass(frozen=True)
class Held:
    """A folder that this process holds."""

    file: int

    def release(self) -> None:
        os.close(self.file)


def hold(folder: Path) -> Held:
    """Hold a folder, made if it is missing; waits for a process that does. Raises OSError, also where the file system has no locks."""
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another process works in %s; waiting for it", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
    except BaseException:
        os.close(file)
        raise
    return Held(file)


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder at this moment."""
    try:
        file = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return False
