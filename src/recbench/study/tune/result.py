"""What a search leaves behind: ``search.yaml`` with every trial, and the best values as a file that a command line can name."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from recbench.config.schemas import option_values
from recbench.core.run_files import read_mapping
from recbench.core.run_folder import RunFolder, replacing
from recbench.core.yaml_text import dump_yaml
from recbench.experiment.sweep import read_records

logger = logging.getLogger(__name__)

SEARCH_FILE = "search.yaml"


def folder_of(record: Mapping[str, Any]) -> RunFolder | None:
    """The run folder of a trial, finished or given up; None for one that failed."""
    path = record.get("stopped_folder") or (record.get("folders") or [None])[-1]
    return RunFolder(Path(path)) if path else None


def seconds_of(record: Mapping[str, Any]) -> float:
    """Seconds of training and validation that a trial took, whenever that was; the same when it is only looked up."""
    folder = folder_of(record)
    epochs = folder.history() if folder is not None else []
    return sum(epoch["seconds/train"] + epoch["seconds/validation"] for epoch in epochs)


def plain(text: str) -> Any:
    """A value of the command line; YAML alone would take a number without a point for text.

    >>> plain("1e-06"), plain("64"), plain("softmax"), plain("true")
    (1e-06, 64, 'softmax', True)
    """
    found = yaml.safe_load(text)
    if isinstance(found, str):
        with contextlib.suppress(ValueError):
            return float(found)
    return found


def trial_of(record: Mapping[str, Any], searched: Sequence[str]) -> dict[str, Any]:
    """One trial in plain values."""
    words = dict(word.lstrip("+").split("=", 1) for word in record["overrides"])
    folder = folder_of(record)
    state = "failed" if record["status"] else "stopped" if "stopped" in record else "finished"
    return {
        "trial": record["job"],
        "state": state,
        "value": record.get("value"),
        "values": {key: plain(words[key]) for key in searched},
        "key": folder.key if folder is not None else None,
        "epochs": len(folder.history()) if folder is not None else 0,
        "seconds": round(seconds_of(record), 3),
        "reason": record.get("stopped") or record.get("reason"),
    }


def conclude(sweep_dir: Path, space: Sequence[str], settings: Mapping[str, Any], config: Any) -> None:
    """Write what a search found, and say it."""
    searched = [key.lstrip("+") for key in space]
    trials = [trial_of(record, searched) for record in read_records(sweep_dir)]
    finished = [trial for trial in trials if trial["state"] == "finished" and trial["value"] is not None]
    best = max(finished, key=lambda trial: trial["value"], default=None)
    budget = {
        "trials": settings["n_trials"],
        "seconds": settings["seconds"] or None,
        "jobs": settings["n_jobs"],
        "seed": settings["seed"],
        "done": len(trials),
        "stopped": sum(trial["state"] == "stopped" for trial in trials),
        "failed": sum(trial["state"] == "failed" for trial in trials),
        "seconds_spent": round(sum(trial["seconds"] for trial in trials), 3),
    }
    RunFolder(sweep_dir).write(SEARCH_FILE, {"budget": budget, "best": best, "trials": trials})
    spent = f"{budget['done']} trials ({budget['stopped']} given up early, {budget['failed']} failed), {budget['seconds_spent']:.1f} s of training"
    if best is None:
        logger.error("search: %s; none was finished, so nothing was chosen", spent)
        return
    found = ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in best["values"].items()
    )
    logger.info("search: %s; best validation %.4f in trial %d: %s", spent, best["value"], best["trial"], found)
    name = settings["name"]
    if name is None:
        return
    path = write_tuned(Path("tuned"), name, best, spent)
    logger.info("best values: %s; use them with tuned=%s", path, name)


def write_tuned(folder: Path, name: str, best: Mapping[str, Any], spent: str) -> Path:
    """The best values in the form of ``conf/tuned/``, on top of what stands there for the same name."""
    values = {key: value for key, value in option_values("tuned", name).items() if key != "name"}
    for key, value in best["values"].items():
        node = values
        *parts, last = key.split(".")
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = value
    folder.mkdir(parents=True, exist_ok=True)
    head = f"# Found by recbench tune: validation {best['value']:.4f}; {spent}. Run {best['key']}.\n"
    path = folder / f"{name}.yaml"
    with replacing(path) as temporary:  # two searches of one name may end together
        temporary.write_text(head + dump_yaml(values), encoding="utf-8")
    return path


def read_search(sweep_dir: Path) -> dict[str, Any]:
    """What ``conclude`` wrote; {} where there is nothing."""
    return read_mapping(sweep_dir / SEARCH_FILE)
