"""Removing runs: what would go, what forbids it, and the deed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recbench.cli.stored.inventory import Inventory
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder, lock_if_free

#: Start of the name of a folder that is on its way out; no reader of a folder of runs looks at names with a dot.
GOING = ".removed-"


@dataclass(frozen=True)
class Removal:
    """asked: keys that were named; needed: what only they needed; broken: run outside of both -> the runs it was made with that would go."""

    asked: tuple[str, ...]
    needed: tuple[str, ...]
    broken: dict[str, list[str]]

    @property
    def keys(self) -> tuple[str, ...]:
        return (*self.asked, *self.needed)


def plan_removal(inventory: Inventory, words: Sequence[str], with_needed: bool) -> Removal:
    """What goes with the runs that the words name. Raises UserError for a word that names none in the folder."""
    asked = tuple(dict.fromkeys(inventory.find(word).key for word in words))
    needed = tuple(inventory.only_needed_by(asked)) if with_needed else ()
    gone = {*asked, *needed}
    broken: dict[str, list[str]] = {}
    for key in gone:
        for other in inventory.needed_by(key):
            if other not in gone:
                broken.setdefault(other, []).append(key)
    return Removal(asked, needed, broken)


def refuse_broken(removal: Removal) -> None:
    """Raise UserError where a run that stays was made with one that would go."""
    for other, keys in removal.broken.items():
        more = f" ({len(removal.broken)} such runs)" if len(removal.broken) > 1 else ""
        raise UserError(f"{other} was made with {', '.join(sorted(keys))}{more}; remove it as well, or say --force")


def remove_runs(inventory: Inventory, keys: Sequence[str]) -> list[str]:
    """Remove run folders, each under its lock; returns those that were left because a process works on them."""
    busy = []
    for key in keys:
        with lock_if_free(RunFolder(inventory.runs[key].path)) as free:
            if free:
                remove_folder(inventory.runs[key].path)
            else:
                busy.append(key)
    return busy


def remove_folder(path: Path) -> None:
    """Out of sight at once, then file by file: nobody finds half a run. A link is removed, not what it points to.

    Raises UserError where it cannot be removed.
    """
    going = path.with_name(f"{GOING}{path.name}-{os.getpid()}")
    try:
        if path.is_symlink():
            path.unlink()
            return
        path.rename(going)
        shutil.rmtree(going)
    except OSError as error:
        raise UserError(f"cannot remove {path}: {error.strerror or error}") from error
