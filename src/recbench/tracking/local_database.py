"""MLflow's database in a file, ``sqlite:///PATH``: made whole or not at all, and known to be writable before MLflow is asked.

MLflow makes its tables in place, step by step. A process that was killed in between, or a second one that came at that moment, would
leave a database that nobody can open again. So they are made in a file beside it, under a lock, and the file is renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from recbench.tracking.store import Unreachable

PREFIX = "sqlite:///"

#: Seconds to wait for another process that makes the same database: MLflow takes a second or two, more on a busy machine.
LOCK_SECONDS = 120
#: Makes MLflow close its connections, so that none of them holds the file that is to be renamed.
UNPOOLED = {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}

#: By database, how often this process tried to make it.
_attempts: dict[Path, int] = {}


def database_file(uri: str) -> Path | None:
    """The file of a local database; None for another kind of store, and for a file that is opened with settings of its own.

    >>> database_file("sqlite:///runs/mlflow.db"), database_file("http://127.0.0.1:5000"), database_file("sqlite:///a.db?mode=ro")
    (PosixPath('runs/mlflow.db'), None, None)
    """
    path = uri.removeprefix(PREFIX)
    return Path(path) if path not in (uri, "", ":memory:") and "?" not in path else None


def prepare(path: Path, make_tables: Callable[[str], object], seconds: float) -> None:
    """Make the database where there is none, and check that it can be written. Raises Unreachable, within ``seconds`` if it is there.

    make_tables: has MLflow make its tables in the database of a URI.
    """
    try:
        if _is_missing(path):
            _make(path, make_tables)
        _check_writable(path, seconds)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Unreachable(f"cannot write the database {path}: {reason}; choose another with tracking.uri") from error


def _is_missing(path: Path) -> bool:
    """An empty file is no database yet: what sqlite leaves that was opened and never written."""
    return not path.exists() or (path.is_file() and path.stat().st_size == 0)


def _make(path: Path, make_tables: Callable[[str], object]) -> None:
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    # MLflow remembers for the whole process which databases it made: no attempt has the name of an earlier one.
    place = path.absolute()
    _attempts[place] = _attempts.get(place, -1) + 1
    beside = place.with_name(f".{path.name}.new{_attempts[place] or ''}")
    try:
        # The lock is the operating system's: free again as soon as its holder dies.
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_SECONDS):
            if not _is_missing(path):
                return  # another process made it while this one waited
            for left in path.parent.glob(f".{path.name}.new*"):  # half a database of a process that was killed
                left.unlink(missing_ok=True)
            try:
                with _environment(UNPOOLED):
                    make_tables(f"{PREFIX}{beside}")
                os.replace(beside, path)
            finally:
                _remove(beside)
    except Timeout as error:
        raise Unreachable(f"another process holds {error.lock_file}, as if it made the database {path}") from error


def _remove(database: Path) -> None:
    for ending in ("", "-journal", "-wal", "-shm"):
        database.with_name(database.name + ending).unlink(missing_ok=True)


def _check_writable(path: Path, seconds: float) -> None:
    """MLflow tries for a minute and a half to open a database that it cannot open; sqlite itself says at once what is wrong."""
    with contextlib.closing(sqlite3.connect(path, timeout=seconds)) as database:
        database.execute("PRAGMA schema_version")  # reads the head of the file, which tells whether it is a database
        database.execute("BEGIN IMMEDIATE")
        database.rollback()


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
