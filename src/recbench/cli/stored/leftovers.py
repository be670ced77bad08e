"""What a folder of runs and the cache hold that nobody needs: unfinished runs, runs made for others that are gone, unused prepared data."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recbench.cli.stored.inventory import Inventory
from recbench.cli.stored.removal import GOING

UNFINISHED, DEPENDENCIES, DATA = "unfinished", "dependencies", "data"
KINDS = (UNFINISHED, DEPENDENCIES, DATA)

#: Seconds for which a run that was made for another one is left alone: the other may be about to begin.
GRACE = 3600.0


@dataclass(frozen=True)
class Leftover:
    """Something that can go. key: of a run; None for anything else."""

    kind: str
    path: Path
    reason: str
    key: str | None = None


def find_leftovers(inventory: Inventory, cache_dir: Path, kinds: Iterable[str]) -> list[Leftover]:
    """What can go, kind by kind. What would go is not counted among those that need something."""
    found: list[Leftover] = []
    if UNFINISHED in kinds:
        found += unfinished(inventory)
    if DEPENDENCIES in kinds:
        found += unneeded(inventory, {left.key for left in found if left.key})
    if DATA in kinds:
        going = {left.key for left in found if left.key}
        found += unused_data(cache_dir, [run for key, run in inventory.runs.items() if key not in going])
    return found


def unfinished(inventory: Inventory) -> Iterator[Leftover]:
    """Runs that gave no result and that nobody works on, and folders that were on their way out."""
    for key, run in inventory.runs.items():
        if run.finished or inventory.is_busy(key):
            continue
        epochs = len(run.history())
        goes_on = f"; goes on after epoch {epochs} if asked for" if (run.path / "resume.ckpt").is_file() else ""
        reason = f"{inventory.state(key)}{': ' + run.reason if run.reason else ''}{goes_on}"
        yield Leftover(UNFINISHED, run.path, reason, key)
    for path in sorted(inventory.runs_dir.glob(f"{GOING}*")):
        yield Leftover(UNFINISHED, path, "half removed")


def unneeded(inventory: Inventory, going: set[str]) -> list[Leftover]:
    """Finished runs that were made for others alone, none of which is left. going: keys that count as gone."""
    found: dict[str, Leftover] = {}
    makers = {key: maker for key in inventory.runs if (maker := inventory.made_for(key)) is not None}
    # A run has no folder yet while those that it needs are made, one after the other.
    at_work = {makers.get(key) for key in inventory.runs if inventory.is_busy(key)}
    newest = time.time() - GRACE
    candidates = [
        key
        for key, maker in makers.items()
        if inventory.runs[key].finished
        and maker not in at_work
        and inventory.runs[key].status.get("updated", 0) < newest
        and not inventory.is_busy(key)
    ]
    while True:
        gone = going | set(found)
        new = [key for key in candidates if key not in gone and gone.issuperset(inventory.needed_by(key))]
        if not new:
            return list(found.values())
        for key in new:
            reason = f"made for {makers[key]} alone"
            found[key] = Leftover(DEPENDENCIES, inventory.runs[key].path, reason, key)


def unused_data(cache_dir: Path, runs: Iterable[Any]) -> Iterator[Leftover]:
    """Prepared data of the cache that none of the runs was made on. Data that are being prepared are left alone."""
    used, unknown = set(), set()
    for run in runs:
        fingerprint = run.provenance.get("data_fingerprint")
        if fingerprint:
            used.add(str(fingerprint))
        else:  # an older recbench made it, or it has not come so far
            unknown.add(str(run.config.get("data", {}).get("name")))
    folders = sorted(path for path in (cache_dir / "prepared").glob("*") if path.is_dir() and not path.is_symlink())
    manifests = {path: _manifest(path) for path in folders}
    # What protocol=sessions sees is made of other prepared data.
    used |= {_made_of(manifest) for manifest in manifests.values() if manifest.get("fingerprint") in used}
    for path, manifest in manifests.items():
        if manifest.get("fingerprint") in used or path.name.partition("-")[0] in unknown or _is_locked(path):
            continue
        reason = "half made" if not manifest else "no run here was made on it"
        yield Leftover(DATA, path, reason)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        found = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _made_of(manifest: dict[str, Any]) -> Any:
    return manifest.get("extra", {}).get("session_split", {}).get("of")


def _is_locked(path: Path) -> bool:
    """Whether a process prepares these data: a folder that is half made is called ``.NAME.PID``, and its lock after NAME."""
    name = path.name.removeprefix(".").rpartition(".")[0] if path.name.startswith(".") else path.name
    lock = FileLock(path.with_name(f"{name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
