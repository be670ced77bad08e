"""The process that started a sweep tells MLflow of its jobs, each when it ends; the jobs themselves import nothing of MLflow.

A job leaves a record and its run folders. Where jobs run one after the other in this process, it sends them in between; where they run
elsewhere, a thread looks for new records. What is not sent, because MLflow is away or this process was killed, is for ``tracking sync``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from recbench.config.settings import TrackingConfig
from recbench.core.errors import UserError
from recbench.core.secrets import redact_addresses
from recbench.tracking.client import place_of
from recbench.tracking.mlflow_store import AGAIN, LATER, Store
from recbench.tracking.store import NotSent, StoreFull, Unreachable
from recbench.tracking.sweep_file import JOB_FILES, SweepFile, SweptJob

logger = logging.getLogger(__name__)

#: Seconds between two looks for new records.
LOOK_SECONDS = 0.5


class SweepSender:
    """Sends the jobs of one sweep. What is wrong with MLflow is said once and never ends a sweep; only ``finish`` fails, for a full disk.

    tracking: of the sweep; None where it is one of the things that jobs do differently, or off.
    """

    def __init__(self, folder: Path, tracking: TrackingConfig | None) -> None:
        self.file, self.tracking = SweepFile(folder), tracking
        self._stores: dict[str, Store | None] = {}  # by place; None for one that is away
        self._seen: dict[Path, int] = {}  # when the record of a job that was looked at was written
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._watch: threading.Thread | None = None

    def start(self, command: Sequence[str], commit: str | None, watch: bool) -> None:
        """Note the sweep on disk and make its run in MLflow. watch: whether its jobs run in other processes."""
        self.file.begin(command, commit, place_of(self.tracking) if self.tracking else None)
        if self.tracking is not None:
            with self._lock:
                self._store(self.tracking)  # imports MLflow, in the main thread and once
        if watch:
            self._watch = threading.Thread(target=self._look, name="recbench-tracking", daemon=True)
            self._watch.start()

    def send_ended(self) -> None:
        """Send the jobs that ended since the last call."""
        with self._lock:
            for path in sorted(self.file.folder.glob(JOB_FILES)):
                try:
                    written = path.stat().st_mtime_ns
                except FileNotFoundError:  # the launcher starts the job anew
                    continue
                if self._seen.get(path) != written:
                    self._seen[path] = written
                    self._send(SweptJob.of(path))

    def finish(self, failed: bool) -> None:
        """Send the rest, tell MLflow that the sweep is over, and say where to compare its runs.

        Raises NotSent, after all else is done, where the disk of a store is still full.
        """
        self._end_watch()
        self.file.update(ended=time.time(), failed=failed)
        self._seen.clear()
        self._stores = {place: store for place, store in self._stores.items() if store is not None}  # another try
        tracked = [job.tracking for job in self.file.jobs() if job.tracking is not None]
        places = {
            place_of(config): self._full(config) for config in ([self.tracking] if self.tracking else []) + tracked
        }
        full = [config for config in places.values() if not self._settle(config)]
        if full:
            raise NotSent(" and ".join(redact_addresses(config.uri) for config in full), "the sweep", AGAIN)

    def abandon(self) -> None:
        """Close the sweep's run in MLflow where a mistake or Ctrl+C ended the sweep before its time: it would stand there as running."""
        self._end_watch()
        self.file.update(ended=time.time(), failed=True)
        for store in filter(None, self._stores.values()):
            try:
                for _ in self.file.settle(store, own=True):
                    pass
            except Unreachable as error:
                logger.warning("MLflow is not reachable: %s", error)

    def _look(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.send_ended()
            except Exception:
                logger.warning("not sent to MLflow, through a mistake of recbench; %s", LATER, exc_info=True)
                return

    def _end_watch(self) -> None:
        self._stop.set()
        if self._watch is not None:
            self._watch.join()

    def _send(self, job: SweptJob) -> None:
        """Send a job that is tracked and left finished runs, if its store is there."""
        if job.tracking is None or not job.folders:
            return
        config = self._full(job.tracking)
        store = self._store(config)
        if store is None:
            return
        try:
            self.file.send(store, job, self.file.read()["parents"][store.place])
        except Unreachable as error:
            self._away(config, error)
        except UserError as error:
            logger.warning("not sent to MLflow: %s; %s", error, LATER)

    def _store(self, config: TrackingConfig) -> Store | None:
        """The store of a place, opened once, with a run for the sweep; None if it is away."""
        place = place_of(config)
        if place not in self._stores:
            try:
                store = Store(config)
                self.file.open_parent(store)
                self._stores[place] = store
            except Unreachable as error:
                self._away(config, error)
        return self._stores[place]

    def _away(self, config: TrackingConfig, error: Unreachable) -> None:
        self._stores[place_of(config)] = None
        if not isinstance(error, StoreFull):  # tried again at the end, which says it
            logger.warning("MLflow is not reachable: %s; the sweep goes on without it", error)

    def _settle(self, config: TrackingConfig) -> bool:
        """Send what a store has not heard of; False where its disk is full."""
        try:
            store = self._stores.get(place_of(config)) or Store(config)
            for key in self.file.settle(store, own=True):
                logger.info("sent %s, which MLflow had missed", key)
            page = self.file.comparison(store)
        except StoreFull:
            return False
        except Unreachable as error:
            logger.warning("MLflow is not reachable: %s; the sweep is complete on disk, %s", error, LATER)
            return True
        if page:
            logger.info("compare runs: %s", page)
        return True

    def _full(self, config: TrackingConfig) -> TrackingConfig:
        """The tracking of a job with the sweep's password, which the job's record does not hold."""
        own = self.tracking
        if own is None or redact_addresses(own.uri) != config.uri:
            return config
        return TrackingConfig(uri=own.uri, experiment=config.experiment, timeout_seconds=config.timeout_seconds)
