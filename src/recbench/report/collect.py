"""Run folders as a report reads them: whatever older versions wrote, whatever a crash left, and never a byte written.

A folder that cannot be read becomes a run with a state and a reason, so that one broken run never costs the report of the others.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbench.core.errors import UserError, nearest
from recbench.core.run_files import Damaged, damage, read_mapping
from recbench.core.secrets import redact_values
from recbench.training.convergence import run_was_cut_off

logger = logging.getLogger(__name__)

#: State of a folder that says it is finished but lacks what a finished run has, or of which a file is cut off.
HALF_WRITTEN = "half-written"
#: Keys of a config that change no result.
OUTSIDE = ("hardware", "tracking", "runs_dir", "cache_dir", "tuned")
#: The same within a group: where raw files lie, and which further metrics were asked for.
NO_RESULT = ("data.raw_dir", "data.mirror", "data.files", "evaluation.metrics")


@dataclass(frozen=True)
class StoredRun:
    """One run, as its folder tells it, or as a study's results.csv does where the folder is not here.

    asked: further figures of its weights under other protocols, one mapping a file ``metrics-*.json``. recorded: told by results.csv; its
    config then holds what is known of it only. held: its ranks by column [T], where a study keeps them.
    """

    path: Path
    state: str
    reason: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    provenance: Mapping[str, Any]
    status: Mapping[str, Any]
    asked: tuple[Mapping[str, Any], ...] = ()
    recorded: bool = False
    held: Mapping[str, np.ndarray] | None = None

    @property
    def key(self) -> str:
        return self.path.name

    @property
    def seed(self) -> Any:
        return self.config.get("seed")

    @property
    def finished(self) -> bool:
        return self.state == "finished"

    @property
    def ranks(self) -> Path:
        return self.path / "ranks.parquet"

    @property
    def predictions(self) -> Path:
        """In the place of ranks, of a run that was asked for clicks."""
        return self.path / "predictions.parquet"

    def history(self) -> list[dict[str, Any]]:
        """One entry an epoch; none for a model without epochs. A line that a crash cut off ends it."""
        path, epochs = self.path / "history.jsonl", []
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    epochs.append(json.loads(line))
                except ValueError:
                    break
        return [epoch for epoch in epochs if isinstance(epoch, dict)]

    @property
    def model(self) -> str:
        """Name of the model; empty where it is not known."""
        return str(flat(self.config).get("model") or "")

    @property
    def cut_off(self) -> bool:
        """Whether ``max_epochs`` ended its training before validation had stopped rising."""
        return bool(self.metrics.get("cut_off")) or run_was_cut_off(self.config, self.metrics)

    def chosen_words(self) -> list[str]:
        """Keys that the command which made the run named, in its order, as in ``training.lr``."""
        words = str(self.provenance.get("command") or "").split()
        return [word.lstrip("+").partition("=")[0] for word in words if "=" in word and not word.startswith("-")]


def read_run(path: Path) -> StoredRun:
    """The run in a folder, whatever state it is in."""
    broken: list[str] = []

    def read(name: str) -> dict[str, Any]:
        try:
            return redact_values(read_mapping(path / name))
        except Damaged as problem:
            broken.append(f"{name} {problem.problem}")
            return {}

    status, config, metrics, provenance = map(read, ("status.json", "config.yaml", "metrics.json", "provenance.json"))
    state, reason = str(status.get("state", "absent")), str(status.get("reason") or "")
    if state == "finished":
        broken = [f"{found.path.name} {found.problem}" for found in damage(path)]
        asked = tuple(filter(None, (read(file.name) for file in sorted(path.glob("metrics-*.json")))))
    else:
        asked = ()
    if (state == "finished" and broken) or (not status and (broken or path.is_dir())):
        state, reason = HALF_WRITTEN, "; ".join(broken) or "there is no status.json"
    return StoredRun(path, state, reason, config, metrics, provenance, status, asked)


def say_damaged(runs: Iterable[StoredRun]) -> None:
    """Name the runs that are left out because a file of theirs is damaged, one line each, before anything is shown."""
    for run in runs:
        if run.state == HALF_WRITTEN:
            logger.warning(
                "left out: %s: %s; remove that folder, and give the command of the run again", run.path, run.reason
            )


def read_folder(runs_dir: Path) -> list[StoredRun]:
    """Every run of a folder, in the order of their keys. Raises UserError if there is no such folder or no run in it."""
    if not runs_dir.is_dir():
        raise UserError(f"there is no folder {runs_dir}; name the folder of runs with runs_dir=PATH")
    paths = sorted(
        path
        for path in runs_dir.iterdir()
        if path.is_dir()
        and not path.name.startswith(".")
        and any((path / n).is_file() for n in ("status.json", "config.yaml"))
    )
    if not paths:
        raise UserError(
            f"{runs_dir} holds no run; a run is a folder with status.json, as runs_dir=runs would hold runs/<key>/"
        )
    return [read_run(path) for path in paths]


def chosen(runs: Sequence[StoredRun], filters: Mapping[str, str]) -> list[StoredRun]:
    """The runs that agree with every filter, such as ``{"model": "sasrec,slmrec", "training.lr": "1e-3"}``.

    ``protocol`` takes names and ids. Raises UserError for a key that no run knows, and where nothing is left.
    """
    left = list(runs)
    for key, wanted in filters.items():
        known = {name for run in runs for name in flat(run.config)}
        if key not in known:
            raise UserError(f"unknown filter '{key}': no run has such a key; {nearest(key, sorted(known))}")
        values = {run.path: _values(run, key) for run in left}
        left = [run for run in left if values[run.path] & {_plain(word) for word in wanted.split(",")}]
        if not left:
            there = sorted(set().union(*values.values()))
            raise UserError(f"no run has {key}={wanted}; there are: {', '.join(there)}")
    return left


def _values(run: StoredRun, key: str) -> set[str]:
    found = {_plain(value) for value in [flat(run.config).get(key)] if value is not None}
    return found | ({str(run.metrics["protocol"])} if key == "protocol" and "protocol" in run.metrics else set())


def _plain(value: Any) -> str:
    """A value or a word in one form, so that 1e-3 finds 0.001."""
    try:
        return f"{float(value):g}" if not isinstance(value, bool) else str(value).lower()
    except (TypeError, ValueError):
        return str(value)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config as dotted keys named as on the command line: ``model.name`` is ``model``."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = prefix.rstrip(".") if key == "name" and prefix else f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[name] = value
    return found


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys of a config that can change a result, less the seed."""
    own = {key: value for key, value in config.items() if key not in (*OUTSIDE, "seed")}
    return {key: value for key, value in flat(own).items() if key not in NO_RESULT}


def unfinished(runs: Iterable[StoredRun]) -> list[StoredRun]:
    """The runs that gave no result."""
    return [run for run in runs if not run.finished]
