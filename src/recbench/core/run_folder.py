"""Runs on disk: a key, a folder, a state, a lock. This file knows nothing of models or training.

A run folder ``runs_dir/<key>/`` holds

    config.yaml         the resolved config            provenance.json   where it comes from
    status.json         state, times, reason           metrics.json      final figures
    history.jsonl       one line an epoch              ranks.parquet     one row a test case
    weights.safetensors the chosen weights             log.txt           what was said
    resume.ckpt         state of an unfinished training; gone when it is finished
    taught/             what its model said as a teacher, for its students (``distillation/offline.py``)
    made_for.json       the run that this one was made for, as a teacher or an item table; gone once somebody asks for it itself

Every file is written beside its place and then renamed, so that a reader never sees half of one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recbench.core.disk import write_atomically
from recbench.core.errors import StoppedEarly, UserError
from recbench.core.stops import note_folder, reason_of

logger = logging.getLogger(__name__)

#: Bytes of free space below which a failed write is put down to a full disk.
NEARLY_NOTHING = 2**16


@dataclass(frozen=True)
class RunFolder:
    """One run folder, existing or to be."""

    path: Path

    @property
    def key(self) -> str:
        return self.path.name

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def resume_checkpoint(self) -> Path:
        return self.path / "resume.ckpt"

    @property
    def ranks(self) -> Path:
        return self.path / "ranks.parquet"

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder; {} if it is not there."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON or YAML file atomically."""
        is_yaml = name.endswith(".yaml")
        text = (
            yaml.safe_dump(dict(content), sort_keys=False)
            if is_yaml
            else json.dumps(content, indent=1, default=str) + "\n"
        )
        with replacing(self.path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def config(self) -> dict[str, Any]:
        return yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))

    @property
    def state(self) -> str:
        """absent | running | failed | interrupted | stopped (by a search, which gave up on it) | finished."""
        return str(self.read("status.json").get("state", "absent"))

    @property
    def finished(self) -> bool:
        return self.state == "finished"

    def set_state(self, state: str, **more: Any) -> None:
        earlier = self.read("status.json")
        now = time.time()
        times = {"started": earlier.get("started", now), "updated": now}
        self.write("status.json", {"state": state, **times, "pid": os.getpid(), "host": socket.gethostname(), **more})

    def note_wish(self, made_for: str | None, is_new: bool) -> None:
        """Remember whether anybody wants this run for itself. made_for: key of the run that needs it; None if it was asked for."""
        if made_for is None:
            (self.path / "made_for.json").unlink(missing_ok=True)
        elif is_new:
            self.write("made_for.json", {"key": made_for})

    def history(self) -> list[dict[str, Any]]:
        """One entry an epoch."""
        path = self.path / "history.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    def write_history(self, epochs: list[dict[str, Any]]) -> None:
        with replacing(self.path / "history.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs), encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place on success and vanishes on failure. A full disk is a UserError."""
    full = False
    try:
        with write_atomically(path) as temporary:
            try:
                yield temporary
            except Exception:
                # Asked before the half-written file goes: safetensors and torch report a full disk in errors of their own.
                full = shutil.disk_usage(path.parent).free < NEARLY_NOTHING if path.parent.is_dir() else False
                raise
    except Exception as error:
        if full:
            raise UserError(
                f"the disk is full: cannot write {path}; free some space or set runs_dir to another disk"
            ) from error
        if isinstance(error, OSError):
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def open_folder(runs_dir: Path, key: str) -> RunFolder:
    """The folder of a key, made if it is missing. Raises UserError where ``runs_dir`` cannot be written."""
    path = runs_dir / key
    try:
        path.mkdir(parents=True, exist_ok=True)
        (runs_dir / ".locks").mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write in runs_dir={runs_dir}: {error.strerror or error}; choose another with runs_dir=PATH"
        ) from error
    return RunFolder(path)


@contextlib.contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Hold the run's lock. A second process that wants the same run waits here, and then finds it finished.

    The lock is the operating system's, so it is free again as soon as its holder dies, however it dies.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder.path.parent / ".locks" / f"{folder.key}.lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("waiting for another process that works on %s", folder.key)
            lock.acquire()
    except OSError as error:
        raise UserError(
            f"cannot lock {folder.path}: {error.strerror or error}; choose another place with runs_dir=PATH"
        ) from error
    try:
        folder.path.mkdir(exist_ok=True)  # whoever held the lock before may have removed the run
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def lock_if_free(folder: RunFolder) -> Iterator[bool]:
    """Hold the run's lock, without waiting for it. Gives False where another process works on the run."""
    from filelock import FileLock, Timeout

    place = folder.path.parent / ".locks"
    place.mkdir(exist_ok=True)
    lock = FileLock(place / f"{folder.key}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextlib.contextmanager
def recording(folder: RunFolder) -> Iterator[None]:
    """Keep status.json and log.txt while a run is made: whatever ends it leaves its reason behind. Called with the lock held."""
    for leftover in folder.path.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)  # half a file of a process that was killed
    handler = logging.FileHandler(folder.path / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    package = logging.getLogger("recbench")
    package.addHandler(handler)
    folder.set_state("running")
    try:
        yield
    except KeyboardInterrupt as stop:
        folder.set_state("interrupted", reason=reason_of(stop))
        note_folder(stop, folder)
        raise
    except StoppedEarly as stop:
        folder.set_state("stopped", reason=str(stop), value=stop.value, search=stop.search)
        raise
    except BaseException as error:
        with contextlib.suppress(UserError):  # the disk that is full cannot take the reason either
            folder.set_state("failed", reason=f"{type(error).__name__}: {error}")
        raise
    finally:
        package.removeHandler(handler)
        handler.close()


def sampled_file(n_candidates: int) -> str:
    """Name of the file in a run folder with the metrics of its weights among sampled items."""
    return f"metrics-sampled{n_candidates}.json"


def rule_file(seen_items: str) -> str:
    """Name of the file in a run folder with the metrics of its weights under the rule on seen items that it was not trained for."""
    return f"metrics-{seen_items}.json"


#: Name of the file in a run folder with its time to score, measured alone on the machine.
LATENCY_FILE = "latency.json"
