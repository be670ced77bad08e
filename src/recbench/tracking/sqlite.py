"""MLflow's local database, written directly: one transaction a run, and none of the seconds that MLflow takes to be imported and to open it.

Only where the tables are as they are known here; a database that is missing or different goes through MLflow's library.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sqlite3
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from recbench.tracking.client import KEY_TAG, NAME_TAG, Entry, Library, Point

#: The columns that are written here, by table. Another column must be one that may stay empty or has a value of its own.
KNOWN = {
    "experiments": ("experiment_id", "name", "artifact_location", "lifecycle_stage"),
    "runs": (
        *("run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status", "start_time"),
        *("end_time", "deleted_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id"),
    ),
    "tags": ("key", "value", "run_uuid"),
    "params": ("key", "value", "run_uuid"),
    "metrics": ("key", "value", "timestamp", "run_uuid", "step", "is_nan"),
    "latest_metrics": ("key", "value", "timestamp", "step", "is_nan", "run_uuid"),
}

PREFIX = "sqlite:///"


class Sqlite:
    """The database of ``sqlite:///PATH``."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.path = Path(uri.removeprefix(PREFIX))

    @classmethod
    def opened(cls, uri: str) -> Sqlite | None:
        """None for another kind of store, a database that is not there yet, and one with other tables."""
        plain = uri.startswith(PREFIX) and "?" not in uri and not os.environ.get("MLFLOW_WORKSPACE")
        client = cls(uri)
        return client if plain and client.path.is_file() and client._is_known() else None

    def _is_known(self) -> bool:
        with self._open() as database:
            for table, known in KNOWN.items():
                columns = {row[1]: row for row in database.execute(f"PRAGMA table_info({table})")}
                free = all(not row[3] or row[4] is not None or name in known for name, row in columns.items())
                if not columns.keys() >= set(known) or not free:
                    return False
        return True

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction; another process that writes is waited for."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=60)) as database, database:
            database.execute("PRAGMA foreign_keys = ON")
            yield database

    def experiment(self, name: str) -> str:
        with self._open() as database:
            found = database.execute(
                "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'", (name,)
            ).fetchone()
        return str(found[0]) if found else Library(self.uri).experiment(name)

    def get(self, run_id: str) -> Entry | None:
        with self._open() as database:
            return next(iter(_entries(database, "run_uuid = ?", run_id)), None)

    def find(self, experiment: str, key: str) -> list[Entry]:
        having = "experiment_id = ? AND run_uuid IN (SELECT run_uuid FROM tags WHERE key = ? AND value = ?)"
        with self._open() as database:
            return _entries(database, having, int(experiment), KEY_TAG, key)

    def create(self, experiment: str, started: int, tags: Mapping[str, str]) -> Entry:
        run_id = uuid.uuid4().hex
        with self._open() as database:
            (root,) = database.execute(
                "SELECT artifact_location FROM experiments WHERE experiment_id = ?", (int(experiment),)
            ).fetchone()
            entry = Entry(run_id, "RUNNING", started, f"{root.rstrip('/')}/{run_id}/artifacts", dict(tags))
            columns = {
                "run_uuid": run_id,
                "name": tags[NAME_TAG],
                "source_type": "UNKNOWN",
                "source_name": "",
                "entry_point_name": "",
                "user_id": tags.get("mlflow.user", "unknown"),
                "status": entry.status,
                "start_time": started,
                "source_version": "",
                "lifecycle_stage": "active",
                "artifact_uri": entry.artifacts,
                "experiment_id": int(experiment),
            }
            names, marks = ", ".join(columns), ", ".join("?" * len(columns))
            database.execute(f"INSERT INTO runs ({names}) VALUES ({marks})", tuple(columns.values()))
            database.executemany(
                "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", [(*tag, run_id) for tag in tags.items()]
            )
        return entry

    def log(self, run_id: str, parameters: Sequence[tuple[str, str]], points: Sequence[Point]) -> None:
        latest: dict[str, Point] = {}
        for point in points:
            if point.name not in latest or _age(latest[point.name]) < _age(point):
                latest[point.name] = point
        with self._open() as database:
            database.executemany(
                "INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", [(*pair, run_id) for pair in parameters]
            )
            for table, rows in (("metrics", points), ("latest_metrics", latest.values())):
                database.executemany(
                    f"INSERT INTO {table} (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)",
                    [(p.name, _number(p.value), p.milliseconds, p.step, math.isnan(p.value), run_id) for p in rows],
                )

    def upload(self, entry: Entry, files: Sequence[Path]) -> None:
        folder = local_folder(entry.artifacts)
        if folder is None:
            Library(self.uri).upload(entry, files)
        else:
            copy_files(files, folder)

    def set_status(self, run_id: str, status: str, ended: int | None) -> None:
        with self._open() as database:
            database.execute("UPDATE runs SET status = ? WHERE run_uuid = ?", (status, run_id))
            if ended is not None:
                database.execute("UPDATE runs SET end_time = ? WHERE run_uuid = ?", (ended, run_id))

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        with self._open() as database:
            database.execute("REPLACE INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", (name, value, run_id))

    def delete(self, run_id: str) -> None:
        now = int(1000 * time.time())
        with self._open() as database:
            database.execute(
                "UPDATE runs SET lifecycle_stage = 'deleted', deleted_time = ? WHERE run_uuid = ?", (now, run_id)
            )


def _entries(database: sqlite3.Connection, having: str, *values: str | int) -> list[Entry]:
    found = database.execute(
        f"SELECT run_uuid, status, start_time, artifact_uri FROM runs WHERE lifecycle_stage = 'active' AND {having}",
        values,
    ).fetchall()
    tags = "SELECT key, value FROM tags WHERE run_uuid = ?"
    return [
        Entry(run_id, status, started, artifacts, dict(database.execute(tags, (run_id,)).fetchall()))
        for run_id, status, started, artifacts in found
    ]


def _age(point: Point) -> tuple[int, int, float]:
    return point.step, point.milliseconds, point.value


def _number(value: float) -> float:
    """As MLflow stores it: no number is 0 with a mark, and infinity the largest number."""
    return 0.0 if math.isnan(value) else min(max(value, -sys.float_info.max), sys.float_info.max)


def local_folder(uri: str) -> Path | None:
    """The folder of a ``file:`` URI or a bare path; None where files go elsewhere.

    >>> local_folder("file:///a/b%20c"), local_folder("/a"), local_folder("s3://bucket/a")
    (PosixPath('/a/b c'), PosixPath('/a'), None)
    """
    place = urlsplit(uri)
    if place.scheme == "file" and place.netloc in ("", "localhost"):
        return Path(unquote(place.path))
    return Path(uri) if not place.scheme else None


def copy_files(files: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copyfile(path, folder / path.name)
