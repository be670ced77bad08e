"""Runs on disk: a key, a folder, a state, a lock. This file knows nothing of models or training.

A run folder ``runs_dir/<key>/`` holds

    config.yaml         the resolved config            provenance.json   where it comes from
    status.json         state, times, reason           metrics.json      final figures
    history.jsonl       one line an epoch              ranks.parquet     one row a test case
    predictions.parquet  in its place under protocol=clicks: one row an impression of the test
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
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbench.core.console import CleanFormatter, clean_line
from recbench.core.disk import DiskFull, is_full, write_atomically
from recbench.core.errors import StoppedEarly, UserError
from recbench.core.run_files import Damaged, damage, read_lines, read_mapping
from recbench.core.secrets import redact_values
from recbench.core.stops import note_folder, reason_of
from recbench.core.yaml_text import dump_yaml

logger = logging.getLogger(__name__)


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

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.parquet"

    @property
    def answers(self) -> Path:
        """What can be judged user by user: the predictions of a run that was asked for clicks, else the ranks."""
        return self.predictions if self.predictions.is_file() else self.ranks

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder; {} if it is not there. Raises Damaged, a UserError that names the file, for one that is cut off."""
        return read_mapping(self.path / name)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON or YAML file atomically, without the secrets of addresses."""
        is_yaml, content = name.endswith(".yaml"), redact_values(content)
        text = dump_yaml(dict(content)) if is_yaml else json.dumps(content, indent=1, default=str) + "\n"
        with replacing(self.path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def config(self) -> dict[str, Any]:
        """What config.yaml holds. Raises Damaged where it is missing or cut off."""
        found = read_mapping(self.path / "config.yaml")
        if not found:
            raise Damaged(self.path / "config.yaml", "is missing or empty")
        return found

    @property
    def state(self) -> str:
        """absent | running | failed | interrupted | stopped (by a search, which gave up on it) | finished. Raises Damaged."""
        status = self.read("status.json")
        if not status and (self.path / "metrics.json").is_file():
            raise Damaged(self.path / "status.json", "is missing, beside the figures of a finished run")
        return str(status.get("state", "absent"))

    @property
    def finished(self) -> bool:
        return self.state == "finished"

    def check_whole(self) -> None:
        """Raise Damaged for the first file of a finished run that is missing, cut off or not what it should be."""
        for found in damage(self.path):
            raise found

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
        """One entry an epoch. Raises Damaged."""
        return read_lines(self.path / "history.jsonl")

    def write_history(self, epochs: list[dict[str, Any]]) -> None:
        with replacing(self.path / "history.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs), encoding="utf-8")


def finished_run(path: Path) -> RunFolder:
    """The folder of a finished run. Raises UserError for anything else, and where a file of it is missing or damaged."""
    folder = RunFolder(path)
    if not folder.finished:
        raise UserError(
            f"{path} holds no finished run (its state is '{folder.state}'); name a folder of runs/, such as runs/sasrec-3f9c2b71a0d4"
        )
    folder.check_whole()
    return folder


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place on success and vanishes on failure. A full disk is a UserError."""
    try:
        with write_atomically(path) as temporary:
            yield temporary
    except OSError as error:
        if is_full(error):
            raise DiskFull(
                f"the disk is full: cannot write {path}: {error.strerror or error}; free some space, then the same command goes on, "
                "or set runs_dir to another disk"
            ) from error
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


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


class LogFile(logging.FileHandler):
    """``log.txt`` of a run. A disk that cannot take it ends it with one line, and the run goes on or ends by what else it writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="replace", delay=True)
        self.setFormatter(CleanFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self.broken = False
        try:
            self.stream = self._open()
        except OSError:
            self.broken = True  # what is written next says why

    def emit(self, record: logging.LogRecord) -> None:
        if not self.broken:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        import sys

        error, self.broken = sys.exc_info()[1], True
        logger.warning("%s is not written any more: %s", self.baseFilename, getattr(error, "strerror", None) or error)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what is still in the buffer of a file that cannot grow
            super().close()


@contextlib.contextmanager
def recording(folder: RunFolder) -> Iterator[None]:
    """Keep status.json and log.txt while a run is made: whatever ends it leaves its reason behind. Called with the lock held."""
    for leftover in folder.path.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)  # half a file of a process that was killed
    handler = LogFile(folder.path / "log.txt")
    package = logging.getLogger("recbench")
    package.addHandler(handler)
    try:
        folder.set_state("running")
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
            folder.set_state("failed", reason=clean_line(f"{type(error).__name__}: {error}"))
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
