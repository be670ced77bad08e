"""What a tracking store missed while it was away: runs, sweeps, and the ends of sweeps."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbench.config.settings import TrackingConfig
from recbench.core.run_folder import RunFolder
from recbench.tracking.describe import sweep_tags
from recbench.tracking.mlflow_store import Store, place_of
from recbench.tracking.ui_links import children, comparison

#: What a sweep's folder tells of the sweep as a whole.
SWEEP_FILE = "sweep.json"


class SweepFile:
    """A sweep as its folder tells it: ``command``, ``place`` (see ``place_of``), ``started`` and ``ended`` in seconds since 1970, and
    ``failed`` once it is over; by place in ``parents`` the MLflow run that stands for it, and in ``closed`` whether that knows its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> dict[str, Any]:
        path = self.folder / SWEEP_FILE
        empty: dict[str, Any] = {"parents": {}, "closed": {}}
        return {**empty, **(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})}

    def update(self, **changes: Any) -> None:
        RunFolder(self.folder).write(SWEEP_FILE, {**self.read(), **changes})

    def begin(self, command: list[str], commit: str | None, place: str) -> None:
        """place: where the sweep is to be tracked."""
        old = self.read()
        same = old if old.get("command") == command else {}
        told = {"command": command, "commit": commit, "place": place, "started": time.time()}
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
        for path in sorted(self.folder.parent.glob(f"*/{SWEEP_FILE}"), reverse=True):
            found = SweepFile(path.parent).read()
            if found.get("command") == command and place in found["parents"]:
                return str(found["parents"][place])
        return None

    def jobs(self) -> list[list[RunFolder]]:
        """The finished runs of each job, the asked one last."""
        records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.folder.glob("job-*.json"))]
        jobs = [[RunFolder(Path(path)) for path in record.get("folders", [])] for record in records]
        finished = [[folder for folder in folders if folder.finished] for folders in jobs]
        return [folders for folders in finished if folders]

    def comparison(self, store: Store) -> str | None:
        """How to come to the page that compares its runs; None if there are none."""
        parent, asked = self.read()["parents"].get(store.place), [folders[-1] for folders in self.jobs()]
        if parent is None or not asked:
            return None
        return comparison(store.config, store.experiment, children(parent), asked[-1].read("metrics.json"))

    def settle(self, store: Store) -> Iterator[str]:
        """Send what the store has not heard of this sweep; yields the keys of runs. Raises Unreachable."""
        told, place = self.read(), store.place
        late = [folders for folders in self.jobs() if any(unsent_to(place, folder) for folder in folders)]
        if place not in told["parents"] and (late or told.get("place") == place):
            late = self.jobs()  # those that were sent have no parent yet
        parent = self.open_parent(store) if late else None
        for folders in late:
            new = [folder.key for folder in folders if unsent_to(place, folder)]
            store.send_with(folders[-1], folders[:-1], parent)
            yield from new
        told = self.read()
        if place in told["parents"] and "ended" in told and not told["closed"].get(place):
            store.end_parent(told["parents"][place], told["failed"], int(1000 * told["ended"]))
            self.update(closed={**told["closed"], place: True})


def sync(runs_dir: Path, config: TrackingConfig) -> Iterator[str]:
    """Send every finished run that the store has not heard of, and every sweep; yields the keys of runs. Dependencies become children of
    what needs them, jobs of their sweep.

    Raises Unreachable.
    """
    store = Store(config)
    for path in sorted(runs_dir.glob(f"*/*/{SWEEP_FILE}")):
        yield from SweepFile(path.parent).settle(store)
    waiting = {f.key: f for f in unsent(runs_dir, config)}
    needs = {key: list(f.read("metrics.json").get("dependencies", {}).values()) for key, f in waiting.items()}
    inner = {key for keys in needs.values() for key in keys}
    # What nothing else stands on goes first: an item table is a child of the student, not of the teacher that shares it.
    for key in sorted(waiting, key=inner.__contains__):
        parts = [RunFolder(runs_dir / name) for name in needs[key]]
        store.send_with(waiting[key], [part for part in parts if part.finished])
        yield key


def unsent(runs_dir: Path, config: TrackingConfig) -> list[RunFolder]:
    """Finished runs of a folder that this store has not heard of."""
    folders = [RunFolder(path.parent) for path in sorted(runs_dir.glob("*/status.json"))]
    return [folder for folder in folders if folder.finished and unsent_to(place_of(config), folder)]


def unsent_to(place: str, folder: RunFolder) -> bool:
    return place not in folder.read("mlflow.json")
