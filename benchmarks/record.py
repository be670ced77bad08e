"""What was measured, a file a run in ``.bench/results/NAME/``, so that a comparison that was stopped goes on with what is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import Line


class Record:
    """The lines of each system of each round of each stage, and the plan that they belong to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def hold(self, plan: dict[str, Any]) -> None:
        """Take the plan on, or compare it with the one that is there. Raises SystemExit if they differ."""
        path = self.folder / "plan.json"
        if not path.is_file():
            path.write_text(json.dumps(plan, indent=1) + "\n")
            return
        before = json.loads(path.read_text())
        other = sorted(key for key in {**before, **plan} if before.get(key) != plan.get(key))
        if other:
            sys.exit(f"{self.folder.name} was begun with another {', '.join(other)} ({path}): choose another --name")

    def path(self, stage: str, number: int, system: str) -> Path:
        return self.folder / f"{stage}-{number}-{system}.json"

    def read(self, stage: str, number: int, system: str) -> list[Line] | None:
        """The lines of a run; None if it is still to be made."""
        path = self.path(stage, number, system)
        return json.loads(path.read_text()) if path.is_file() else None

    def write(self, stage: str, number: int, system: str, lines: list[Line]) -> None:
        path = self.path(stage, number, system)
        half = path.with_suffix(".half")
        half.write_text(json.dumps(lines, indent=1) + "\n")
        half.replace(path)

    def rounds(self, stage: str, systems: list[str]) -> list[dict[str, list[Line]]]:
        """The runs of each round that has any, by system in the order given."""
        found = []
        for number in range(1, 1 + self.last(stage)):
            runs = {name: lines for name in systems if (lines := self.read(stage, number, name)) is not None}
            found += [runs] if runs else []
        return found

    def last(self, stage: str) -> int:
        return max((int(path.name.split("-")[1]) for path in self.folder.glob(f"{stage}-*.json")), default=0)
