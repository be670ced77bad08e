"""A folder of runs as a whole: its runs by key, which needs which, how large they are, and which are being worked on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from recbench.core.errors import UserError, nearest
from recbench.core.run_folder import RunFolder, lock_if_free
from recbench.report.collect import StoredRun, read_folder


@dataclass(frozen=True)
class Inventory:
    """The runs of ``runs_dir``, whatever state they are in."""

    runs_dir: Path
    runs: Mapping[str, StoredRun]

    @classmethod
    def of(cls, runs_dir: Path) -> Inventory:
        """Raises UserError if there is no such folder or no run in it."""
        found = read_folder(runs_dir)
        return cls(runs_dir.resolve(), {run.key: run for run in found})

    def find(self, word: str) -> StoredRun:
        """The run of a key, of a folder, or of the only key that begins so. Raises UserError for none, and for what lies outside ``runs_dir``."""
        path = Path(word).expanduser()
        if len(path.parts) > 1 or word in (".", ".."):
            place = path.resolve()
            if place.parent != self.runs_dir:
                raise UserError(
                    f"{word} does not lie in {self.runs_dir}; name the folder that holds it with runs_dir=PATH"
                )
            word = place.name
        begun = [word] if word in self.runs else [key for key in self.runs if key.startswith(word)]
        if len(begun) > 1:
            raise UserError(f"'{word}' is the beginning of {len(begun)} keys: {', '.join(begun[:5])}; write more of it")
        if not begun:
            raise UserError(f"no run '{word}' in {self.runs_dir}; {nearest(word, list(self.runs)[:50])}")
        return self.runs[begun[0]]

    def needs(self, key: str) -> dict[str, str]:
        """role -> key of the runs that a run was made with; of an unfinished one those that it asked for."""
        run = self.runs[key]
        found = run.metrics.get("dependencies") or run.provenance.get("dependencies") or {}
        return {str(role): str(needed) for role, needed in found.items()}

    @cached_property
    def _needed_by(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {key: [] for key in self.runs}
        for key in self.runs:
            for needed in self.needs(key).values():
                found.setdefault(needed, []).append(key)
        return found

    def needed_by(self, key: str) -> list[str]:
        """The runs that were made with this one."""
        return self._needed_by.get(key, [])

    def only_needed_by(self, keys: Iterable[str]) -> list[str]:
        """What these runs need, directly or through others, and no other run does."""
        going = list(keys)
        found: list[str] = []
        while True:
            gone = {*going, *found}
            more = [
                needed
                for key in gone
                for needed in self.needs(key).values()
                if needed in self.runs and needed not in gone and gone.issuperset(self.needed_by(needed))
            ]
            if not more:
                return sorted(found)
            found += dict.fromkeys(more)

    def made_for(self, key: str) -> str | None:
        """The run that this one was made for, if nobody asked for it itself."""
        return RunFolder(self.runs[key].path).read("made_for.json").get("key")

    def is_busy(self, key: str) -> bool:
        """Whether a process works on it at this moment."""
        with lock_if_free(RunFolder(self.runs[key].path)) as free:
            return not free

    def state(self, key: str) -> str:
        """Its state; ``killed`` where its folder says that it is running and nobody works on it."""
        run = self.runs[key]
        return "killed" if run.state == "running" and not self.is_busy(key) else run.state


def size_of(path: Path) -> int:
    """Bytes of all files below a folder; of a file that goes away meanwhile, 0."""
    total = 0
    for file in path.rglob("*"):
        try:
            total += file.lstat().st_size if not file.is_dir() or file.is_symlink() else 0
        except OSError:
            continue
    return total
