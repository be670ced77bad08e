"""Finished runs in MLflow. A run is read from its folder and sent whole, so a server that is down loses nothing.

Where a run was sent is kept in its folder (``mlflow.json``); sending it again there does nothing. A sweep is a parent run; jobs and
their dependencies are its children; the dependencies of a single run are children of that run.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from recbench.config.settings import TrackingConfig
from recbench.core.run_folder import RunFolder, locked
from recbench.tracking.client import PARENT_TAG, Entry, open_client
from recbench.tracking.describe import metrics_of, parameters_of, tags_of
from recbench.tracking.ui_links import comparable, comparison

logger = logging.getLogger(__name__)

ARTIFACTS = (
    "config.yaml",
    "provenance.json",
    "status.json",
    "metrics.json",
    "history.jsonl",
    "ranks.parquet",
    "log.txt",
)


class Unreachable(Exception):
    """The tracking store did not answer."""


class Store:
    """One tracking store and one experiment in it."""

    def __init__(self, config: TrackingConfig) -> None:
        self.config = config
        with reachable(config):
            self.client = open_client(config.uri)
            self.experiment = self.client.experiment(config.experiment)

    @property
    def place(self) -> str:
        return place_of(self.config)

    def start_parent(self, tags: Mapping[str, str], started: int) -> str:
        """A run that groups others, such as a sweep; returns its id. started: milliseconds since 1970."""
        with reachable(self.config):
            return self.client.create(self.experiment, started, tags).run_id

    def reopen_parent(self, run_id: str) -> bool:
        """Say of a run that groups others that it goes on; False if it is not there any more."""
        with reachable(self.config):
            if self.client.get(run_id) is None:
                return False
            self.client.set_status(run_id, "RUNNING", None)
            return True

    def end_parent(self, run_id: str, failed: bool, ended: int) -> None:
        with reachable(self.config):
            self.client.set_status(run_id, "FAILED" if failed else "FINISHED", ended)

    def send(self, folder: RunFolder, parent: str | None = None) -> str:
        """Send a finished run, or only name its parent if it was sent before. Returns its MLflow id."""
        # Two jobs that share a dependency may come here with it at the same time.
        with reachable(self.config), locked(folder):
            sent = folder.read("mlflow.json").get(self.place)
            entry = self.client.get(sent) if sent is not None else None
            if entry is None:
                entry = self._send_once(folder)
                folder.write("mlflow.json", {**folder.read("mlflow.json"), self.place: entry.run_id})
            if parent and parent != entry.run_id and PARENT_TAG not in entry.tags:
                self.client.set_tag(entry.run_id, PARENT_TAG, parent)
            return entry.run_id

    def send_with(self, folder: RunFolder, needed: Iterable[RunFolder], parent: str | None = None) -> None:
        """Send a run and the runs it stands on. Without a parent, the run becomes the parent of the others."""
        sent = self.send(folder, parent)
        for part in needed:
            self.send(part, parent or sent)

    def _send_once(self, folder: RunFolder) -> Entry:
        """Send what the store does not have. Of an attempt that ended in its middle, perhaps without an answer, nothing stays."""
        status = folder.read("status.json")
        started = int(1000 * status["started"])
        for entry in self.client.find(self.experiment, folder.key):
            if entry.started != started:
                continue  # the same run trained anew, or by somebody else
            if entry.status == "FINISHED":
                return entry
            self.client.delete(entry.run_id)
        return self._send_new(folder, started, int(1000 * status["updated"]))

    def _send_new(self, folder: RunFolder, started: int, ended: int) -> Entry:
        config, metrics = folder.config(), folder.read("metrics.json")
        tags = tags_of(folder.key, config, metrics, folder.read("provenance.json"), folder.path)
        entry = self.client.create(self.experiment, started, tags)
        points = list(metrics_of(metrics, folder.history(), started, ended))
        self.client.log(entry.run_id, parameters_of(config), points)
        files = [folder.path / name for name in ARTIFACTS]
        self.client.upload(entry, [path for path in files if path.is_file()])
        self.client.set_status(entry.run_id, "FINISHED", ended)
        return entry


def place_of(config: TrackingConfig) -> str:
    """How a run remembers where it was sent."""
    return f"{config.uri}#{config.experiment}"


@contextmanager
def reachable(config: TrackingConfig) -> Iterator[None]:
    """Give up soon on a server that does not answer, and say so as Unreachable whatever the client library raises."""
    limits = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(config.timeout_seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_LOGGING_LEVEL": "WARNING",  # else it tells of every table that it creates
    }
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns of every retry
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        if _is_absence(error):
            raise Unreachable(f"{config.uri} ({type(error).__name__}: {str(error).splitlines()[0][:120]})") from error
        raise
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _is_absence(error: Exception) -> bool:
    """Whether an error says that the store cannot be had, rather than that we used it wrongly."""
    if isinstance(error, OSError):  # requests' connection errors are OSErrors
        return True
    module = type(error).__module__
    return module.startswith(("mlflow", "sqlalchemy", "sqlite3", "requests", "urllib3", "recbench.tracking.rest"))


def deliver(config: TrackingConfig, folders: list[RunFolder], parent: str | None = None) -> str | None:
    """Send finished runs, the last being the one asked for and the others what it stands on. Returns how to come to the page that compares
    it with others; None if the store was unreachable.

    Without a parent, the last run becomes the parent of the others.
    """
    try:
        store = Store(config)
        store.send_with(folders[-1], folders[:-1], parent)
    except Unreachable as error:
        logger.warning(
            "MLflow is not reachable: %s; the run is complete on disk, send it later with: recbench tracking sync",
            error,
        )
        return None
    asked = folders[-1]
    metrics = asked.read("metrics.json")
    tags = tags_of(asked.key, asked.config(), metrics, asked.read("provenance.json"))
    return comparison(config, store.experiment, comparable(tags), metrics)
