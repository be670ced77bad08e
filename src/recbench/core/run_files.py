"""The files of a run folder as they are found: whole, or with a line that says which one is damaged and what to do.

A disk that was full, a copy that was cut short, a hand that edited: whatever it was, it is known before a figure of the run is shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from recbench.core.errors import UserError
from recbench.core.yaml_text import load_yaml

#: Without these a finished run is none; the others of its folder can be had again.
ESSENTIAL = ("status.json", "config.yaml", "provenance.json", "metrics.json")
#: What the config of every run holds.
CONFIGURED = ("seed", "model", "data", "protocol", "training")
#: First and last bytes of a Parquet file.
PARQUET = b"PAR1"


class Damaged(UserError):
    """A file of a run that is missing, cut off, or not what it should be. path: the file; problem: what is wrong with it."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path, self.problem = path, problem
        mend = f"remove the folder {path.parent} and give the command of that run again"
        if path.name not in (
            *ESSENTIAL,
            "ranks.parquet",
            "predictions.parquet",
            "weights.safetensors",
            "history.jsonl",
        ):
            mend = "delete the file, and give the command that wrote it again"
        super().__init__(f"{path} {problem}; {mend}")


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a JSON or YAML file; {} if it is not there. Raises Damaged for anything else."""
    try:
        text = path.read_bytes().decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise Damaged(path, f"cannot be read ({type(error).__name__})") from error
    try:
        found = load_yaml(text) if path.suffix == ".yaml" else json.loads(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise Damaged(path, f"cannot be read ({type(error).__name__})") from error
    if not isinstance(found, dict):
        raise Damaged(path, "is no mapping")
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The mappings of a file with one JSON object a line; [] if it is not there. Raises Damaged."""
    if not path.is_file():
        return []
    try:
        found = [json.loads(line) for line in path.read_bytes().decode("utf-8").splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(path, f"cannot be read ({type(error).__name__})") from error
    if not all(isinstance(line, dict) for line in found):
        raise Damaged(path, "has a line that is no mapping")
    return found


def damage(folder: Path) -> Iterator[Damaged]:
    """What is wrong with the files of a finished run. Cheap: of ranks and weights only the heads and sizes are looked at.

    Ranks and weights that somebody removed to save space are no damage: who needs them says so.
    """
    checks = (_status, _config, _metrics, _provenance, _history, _ranks, _weights)
    for check in checks:
        try:
            check(folder)
        except Damaged as found:
            yield found


def _essential(folder: Path, name: str) -> dict[str, Any]:
    found = read_mapping(folder / name)
    if not found:
        raise Damaged(folder / name, "is missing or empty" if (folder / name).exists() else "is missing")
    return found


def _status(folder: Path) -> None:
    status = _essential(folder, "status.json")
    if not isinstance(status.get("state"), str):
        raise Damaged(folder / "status.json", "lacks the state of the run")
    for name in ("started", "updated"):
        if name in status and not _is_number(status[name]):
            raise Damaged(folder / "status.json", f"holds no time in '{name}'")


def _config(folder: Path) -> None:
    path, config = folder / "config.yaml", _essential(folder, "config.yaml")
    lacking = [name for name in CONFIGURED if name not in config]
    if lacking:
        raise Damaged(path, f"lacks {', '.join(lacking)}")
    for name in ("model", "data", "protocol"):
        if not isinstance(config[name], dict) or not isinstance(config[name].get("name"), str):
            raise Damaged(path, f"does not name its {name}")


def _metrics(folder: Path) -> None:
    path, metrics = folder / "metrics.json", _essential(folder, "metrics.json")
    if not isinstance(metrics.get("protocol"), str):
        raise Damaged(path, "lacks what a finished run has")
    for name, value in metrics.items():
        if name.startswith(("test/", "validation/")) and not _is_number(value):
            raise Damaged(path, f"holds no number in '{name}'")


def _provenance(folder: Path) -> None:
    _essential(folder, "provenance.json")


def _history(folder: Path) -> None:
    read_lines(folder / "history.jsonl")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ranks(folder: Path) -> None:
    """A Parquet file ends with the length of its footer and the letters that it begins with."""
    for name in ("ranks.parquet", "predictions.parquet"):
        _parquet(folder / name)


def _parquet(path: Path) -> None:
    if not path.is_file():
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(len(PARQUET))
        file.seek(max(size - 8, 0))
        tail = file.read()
    whole = size >= 12 and head == PARQUET == tail[-4:] and int.from_bytes(tail[:4], "little") <= size - 12
    if not whole:
        raise Damaged(path, f"is cut off or damaged ({size:,} bytes)")


def _weights(folder: Path) -> None:
    """A safetensors file begins with the length of its head, which says where the last tensor ends."""
    path = folder / "weights.safetensors"
    if not path.is_file():
        return
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            head: Any = json.loads(file.read(length)) if length <= size - 8 else None
        ends = [entry["data_offsets"][1] for name, entry in head.items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0) == size
    except (ValueError, RecursionError, TypeError, KeyError, IndexError, AttributeError):
        whole = False
    if not whole:
        raise Damaged(path, f"is cut off or damaged ({size:,} bytes)")
