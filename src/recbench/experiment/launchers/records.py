"""What launchers share: the record of a job that could not write its own, and Hydra's answer for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, filter_overrides

from recbench.core.disk import write_atomically
from recbench.core.errors import UserError


def record_path(sweep_dir: Path, job: int) -> Path:
    """Where a job of a sweep says what became of it."""
    return sweep_dir / f"job-{job:05d}.json"


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all, for readers in other processes and threads."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def write_lost(sweep_dir: Path, job: int, overrides: Sequence[str], reason: str) -> JobReturn:
    """Note a job that ended without a word of its own, and answer for it: without a value, and without an exception that would end the sweep."""
    record: dict[str, Any] = {"job": job, "overrides": list(filter_overrides(overrides)), "status": 1, "reason": reason}
    sweep_dir.mkdir(parents=True, exist_ok=True)
    write_record(record_path(sweep_dir, job), record)
    return JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED, _return_value=None)


def needs_extra(launcher: str) -> UserError:
    return UserError(
        f"hydra/launcher={launcher} needs the extra 'sweep'; install it with: pip install 'recbench[sweep]'"
    )
