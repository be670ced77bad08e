"""Data made of other data: stored beside them, memory-mapped like them, and found again by a hash of what they were made of and how."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recbench.core.disk import disk_errors
from recbench.data.once import build_once
from recbench.data.prepared import PreparedData

#: What a view says of the raw files as its source does.
INHERITED = ("settings", "files", "counts", "cleaning")


def view_beside(data: PreparedData, kind: str, asked: str, build: Callable[[Path], None]) -> PreparedData:
    """The view of the data for what is ``asked``, made by ``build(working folder)`` if it is not there yet."""
    key = hashlib.blake2b(asked.encode(), digest_size=8).hexdigest()
    folder = data.folder.with_name(f"{data.folder.name}-{kind}-{key}")
    with disk_errors(folder.parent, "cache_dir"):
        build_once(folder, build)
    return PreparedData.open(folder)


def inherited(data: PreparedData, **extra: Any) -> dict[str, Any]:
    """The ``details`` of a view: those of the data, less what their generator knew of the best score, and ``extra`` beside their own."""
    manifest = data.manifest
    kept = {name: value for name, value in manifest.get("extra", {}).items() if name != "oracle"}
    return {name: manifest[name] for name in INHERITED if name in manifest} | {"extra": {**kept, **extra}}
