"""A sweep on disk: what its folder tells of the sweep as a whole, of its jobs, and of what MLflow knows of both."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbench.config.settings import TrackingConfig
from recbench.core.own_folder import is_held
from recbench.core.run_files import read_mapping
from recbench.core.run_folder import RunFolder
from recbench.core.secrets import redact, redact_addresses
from recbench.tracking.client import place_of
from recbench.tracking.describe import sweep_tags
from recbench.tracking.loggers import is_logger
from recbench.tracking.mlflow_store import Store
from recbench.tracking.ui_links import children

#: What a sweep's folder tells of the sweep as a whole, and its records of jobs.
SWEEP_FILE, JOB_FILES = "sweep.json", "job-*.json"


@dataclass(frozen=True)
class SweptJob:
    """A job of a sweep that ended: its finished runs, the asked one last; its words; where its config says it is tracked, if anywhere.

    A record of before jobs said so has ``told`` False.
    """

    folders: tuple[RunFolder, ...]
    words: tuple[str, ...]
    tracking: TrackingConfig | None
    told: bool

    @classmethod
    def of(cls, path: Path) -> SweptJob:
        record = read_mapping(path)
        folders = [RunFolder(Path(folder)) for folder in record.get("folders", [])]
        tracking = record.get("tracking")
        return cls(
            tuple(folder for folder in folders if folder.finished),
            tuple(record.get("overrides", ())),
            TrackingConfig(**tracking) if tracking else None,
            "tracking" in record,
        )

    def is_for(self, place: str) -> bool:
        """Whether it is to be sent to a place by its own sweep."""
        return not self.told or (self.tracking is not None and place_of(self.tracking) == place)


def tracking_record(config: TrackingConfig) -> dict[str, Any] | None:
    """What a job's record says of its tracking, for the process that started the sweep; None for a job that is not tracked."""
    if not config.enabled or is_logger(config):
        return None
    told = {"experiment": config.experiment, "timeout_seconds": config.timeout_seconds}
    return {"uri": redact_addresses(config.uri), **told}


class SweepFile:
    """A sweep as its folder tells it: ``command``, ``place`` (see ``place_of``; None if it is not tracked), ``started`` and ``ended`` in
    seconds since 1970, and ``failed`` once it is over; by place in ``parents`` the MLflow run that stands for it, and in ``closed`` whether
    that knows its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> dict[str, Any]:
        """The content, with nothing in it for a sweep of which nothing was written."""
        return {"parents": {}, "closed": {}, **read_mapping(self.folder / SWEEP_FILE)}

    def update(self, **changes: Any) -> None:
        RunFolder(self.folder).write(SWEEP_FILE, {**self.read(), **changes})

    def begin(self, command: Sequence[str], commit: str | None, place: str | None) -> None:
        """place: where the sweep is to be tracked."""
        old, words = self.read(), [redact(word) for word in command]
        same = old if old.get("command") == words else {}
        told = {"command": words, "commit": commit, "place": place, "started": time.time()}
        RunFolder(self.folder).write(SWEEP_FILE, {**told, "parents": same.get("parents", {})})

    def open_parent(self, store: Store) -> str:
        """The sweep's run in MLflow: the same one where the same command was given before, so that its children stay together."""
        told = self.read()
        parent = told["parents"].get(store.place) or self._earlier(told["command"], store.place)
        if parent is None or not store.reopen_parent(parent):
            tags = sweep_tags(self.folder.name, told["command"], told.get("commit"))
            parent = store.start_parent(tags, int(1000 * told["started"]))
        self.update(parents={**told["parents"], store.place: parent}, closed={**told["closed"], store.place: False})
        return parent

    def _earlier(self, command: list[str], place: str) -> str | None:
        """The run of an earlier sweep of the same command; one that goes on beside this one keeps its own."""
        for path in sorted(self.folder.parent.glob(f"*/{SWEEP_FILE}"), reverse=True):
            if path.parent == self.folder or is_held(path.parent):
                continue
            found = SweepFile(path.parent).read()
            if found.get("command") == command and place in found["parents"]:
                return str(found["parents"][place])
        return None

    def jobs(self) -> list[SweptJob]:
        """The jobs that left a finished run."""
        jobs = [SweptJob.of(path) for path in sorted(self.folder.glob(JOB_FILES))]
        return [job for job in jobs if job.folders]

    def send(self, store: Store, job: SweptJob, parent: str) -> None:
        """Send the runs of a job, the asked one named by the words in which it differs from the others of the sweep."""
        command = self.read().get("command", [])
        varied = [word for word in job.words if word not in command]
        store.send_job(job.folders, parent, varied)

    def comparison(self, store: Store) -> str | None:
        """How to come to the page that compares its runs; None if there are none."""
        parent = self.read()["parents"].get(store.place)
        asked = [job.folders[-1].read("mlflow.json").get(store.place) for job in self.jobs()]
        sent = [run_id for run_id in asked if run_id is not None]
        return store.compare(children(parent), sent) if parent is not None and sent else None

    def settle(self, store: Store, own: bool = False) -> Iterator[str]:
        """Send what the store has not heard of this sweep; yields the keys of runs. own: only jobs that are tracked there by themselves.

        Raises Unreachable.
        """
        told, place = self.read(), store.place
        jobs = [job for job in self.jobs() if not own or job.is_for(place)]
        late = [job for job in jobs if any(unsent_to(place, folder) for folder in job.folders)]
        if place not in told["parents"] and (late or told.get("place") == place):
            late = jobs  # those that were sent have no parent yet
        parent = self.open_parent(store) if late else None
        for job in late:
            new = [folder.key for folder in job.folders if unsent_to(place, folder)]
            self.send(store, job, str(parent))
            yield from new
        told = self.read()
        if place in told["parents"] and "ended" in told and not told["closed"].get(place):
            store.end_parent(told["parents"][place], told["failed"], int(1000 * told["ended"]))
            self.update(closed={**told["closed"], place: True})


def unsent_to(place: str, folder: RunFolder) -> bool:
    """Whether a run folder knows nothing of having been sent to a place."""
    return place not in folder.read("mlflow.json")
