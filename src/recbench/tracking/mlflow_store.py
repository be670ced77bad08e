"""Finished runs in MLflow. A run is read from its folder and sent whole, so a server that is down loses nothing.

Where a run was sent is kept in its folder (``mlflow.json``); sending it again there does nothing. A sweep is a parent run; jobs and
their dependencies are its children; the dependencies of a single run are children of that run.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence

from recbench.config.settings import TrackingConfig
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder, locked
from recbench.core.secrets import redact_addresses
from recbench.tracking.client import open_client, place_of, reachable
from recbench.tracking.describe import metrics_of, parameters_of, tags_of
from recbench.tracking.store import PARENT_TAG, SWEEPS_TAG, Entry, NotSent, StoreFull, Unreachable, short_id
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

#: Characters that a list of sweeps may have; the oldest fall out of it.
SWEEPS_LENGTH = 4999

#: What to do about a run that could not be sent.
LATER = "send it later with: recbench tracking sync"
#: The same where the disk is full.
AGAIN = "the same command, or recbench tracking sync,"


class Store:
    """One tracking store and one experiment in it. Raises Unreachable where the store cannot be had."""

    def __init__(self, config: TrackingConfig) -> None:
        self.config = config
        with reachable(config):
            self.client = open_client(config)
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

    def send(
        self, folder: RunFolder, parent: str | None = None, sweep: str | None = None, varied: Sequence[str] = ()
    ) -> str:
        """Send a finished run, or only name its parent and its sweep if it was sent before. Returns its MLflow id.

        parent: what it is shown under if it is shown under nothing yet; sweep: what it is a job of; varied: as in ``run_name``.
        """
        # Two jobs that share a dependency may come here with it at the same time.
        with reachable(self.config), locked(folder):
            sent = folder.read("mlflow.json").get(self.place)
            entry = self.client.get(sent) if sent is not None else None
            if entry is None:
                entry = self._send_once(folder, varied)
                folder.write("mlflow.json", {**folder.read("mlflow.json"), self.place: entry.run_id})
            if parent and parent != entry.run_id and PARENT_TAG not in entry.tags:
                self.client.set_tag(entry.run_id, PARENT_TAG, parent)
            if sweep and short_id(sweep) not in entry.tags.get(SWEEPS_TAG, ""):
                told = f"{entry.tags.get(SWEEPS_TAG, '')} {short_id(sweep)}"
                self.client.set_tag(entry.run_id, SWEEPS_TAG, told.strip()[-SWEEPS_LENGTH:])
            return entry.run_id

    def send_with(self, folder: RunFolder, needed: Iterable[RunFolder]) -> None:
        """Send a run, and under it the runs it stands on."""
        sent = self.send(folder)
        for part in needed:
            self.send(part, sent)

    def send_job(self, folders: Sequence[RunFolder], sweep: str, varied: Sequence[str]) -> None:
        """Send the runs of a job under the run of its sweep; the last one was asked for."""
        self.send(folders[-1], sweep, sweep, varied)
        for part in folders[:-1]:
            self.send(part, sweep, sweep)

    def compare(self, having: str, asked: Collection[str] | None = None) -> str:
        """How to come to the page that compares the runs of a filter; see ``ui_links.comparison``."""
        with reachable(self.config):
            return comparison(self.client, self.config, self.experiment, having, asked)

    def _send_once(self, folder: RunFolder, varied: Sequence[str]) -> Entry:
        """Send what the store does not have. Of an attempt that ended in its middle, perhaps without an answer, nothing stays."""
        status = folder.read("status.json")
        started = int(1000 * status["started"])
        for entry in self.client.find(self.experiment, folder.key):
            if entry.started != started:
                continue  # the same run trained anew, or by somebody else
            if entry.status == "FINISHED":
                return entry
            self.client.delete(entry.run_id)
        return self._send_new(folder, started, int(1000 * status["updated"]), varied)

    def _send_new(self, folder: RunFolder, started: int, ended: int, varied: Sequence[str]) -> Entry:
        config, metrics = folder.config(), folder.read("metrics.json")
        tags = tags_of(folder.key, config, metrics, folder.read("provenance.json"), folder.path, varied)
        entry = self.client.create(self.experiment, started, tags)
        points = list(metrics_of(metrics, folder.history(), started, ended))
        self.client.log(entry.run_id, parameters_of(config), points)
        files = [folder.path / name for name in ARTIFACTS]
        self.client.upload(entry.run_id, [path for path in files if path.is_file()])
        self.client.set_status(entry.run_id, "FINISHED", ended)
        return entry


def deliver(config: TrackingConfig, folders: Sequence[RunFolder]) -> str | None:
    """Send finished runs, the last being the one asked for and the others what it stands on. Returns how to come to the page that compares
    it with others; None if it could not be sent, which is said and is no error: the run is complete on disk.

    The last run becomes the parent of the others. Raises NotSent where the disk of the store is full: that is the user's to mend.
    """
    asked = folders[-1]
    try:
        store = Store(config)
        store.send_with(asked, folders[:-1])
        tags = tags_of(asked.key, asked.config(), asked.read("metrics.json"), asked.read("provenance.json"))
        return store.compare(comparable(tags))
    except StoreFull as error:
        raise NotSent(redact_addresses(config.uri), "the run", AGAIN) from error
    except Unreachable as error:
        logger.warning("MLflow is not reachable: %s; the run is complete on disk, %s", error, LATER)
    except UserError as error:
        logger.warning("not sent to MLflow: %s; %s", error, LATER)
    except Exception:
        logger.warning("not sent to MLflow, through a mistake of recbench; the run is complete on disk", exc_info=True)
    return None
