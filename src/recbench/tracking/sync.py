"""What a tracking store missed while it was away: runs, sweeps, and the ends of sweeps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from recbench.config.settings import TrackingConfig
from recbench.core.run_files import ESSENTIAL, Damaged
from recbench.core.run_folder import RunFolder
from recbench.tracking.client import place_of
from recbench.tracking.mlflow_store import Store
from recbench.tracking.sweep_file import SWEEP_FILE, SweepFile, unsent_to

logger = logging.getLogger(__name__)


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
    return [folder for folder in folders if _is_whole(folder) and unsent_to(place_of(config), folder)]


def _is_whole(folder: RunFolder) -> bool:
    """Whether a folder holds a finished run; of one that cannot be read it is said, and the others are sent."""
    try:
        if folder.finished:
            for name in ESSENTIAL:
                folder.read(name)
            return True
    except Damaged as error:
        logger.warning("left out: %s", error)
    return False
