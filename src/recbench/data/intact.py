"""Whether prepared data are still what was written: each file is hashed once, when a process first opens the folder.

Hashing takes a second for about a gigabyte. Where the files are larger than AT_EVERY_START together, the hash is trusted as long as no file
changed its size, its inode or the time of its last change: a mark beside the files says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from recbench.core.disk import write_atomically
from recbench.core.errors import UserError

#: Bytes that every process hashes anew: half a second at most.
AT_EVERY_START = 1 << 28
#: What a folder says of its last hashing.
MARK = ".intact.json"

#: By folder, the state of its files when this process hashed them.
_known: dict[Path, Any] = {}


def checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Hash (BLAKE2b) by file."""
    return {name: _hash(folder / name) for name in names}


def check_intact(folder: Path, manifest: Mapping[str, Any], fingerprint: Callable[[], str | None]) -> None:
    """Raise UserError, naming the file, if one is not what the manifest says. Once a process and state of the files.

    fingerprint: of what lies on the disk, for data that were prepared before manifests held checksums; None if it would take long.
    """
    said = manifest.get("checksums")
    paths = [folder / name for name in said] if said else sorted([*folder.glob("*.npy"), *folder.glob("*.parquet")])
    state = [[path.name, *_state(path)] for path in paths]
    if _known.get(folder) == state:
        return
    size = sum(path.stat().st_size for path in paths)
    if size <= AT_EVERY_START or _mark(folder) != state:
        if said:
            for name, hash_then in said.items():
                if _hash(folder / name) != hash_then:
                    raise _damaged(folder, name)
        elif fingerprint() not in (None, manifest["fingerprint"]):
            raise _damaged(folder, "its arrays and items")
        if size > AT_EVERY_START:
            with contextlib.suppress(OSError), write_atomically(folder / MARK) as temporary:
                temporary.write_text(json.dumps(state), encoding="utf-8")
    _known[folder] = state


def _damaged(folder: Path, what: str) -> UserError:
    return UserError(
        f"prepared data in {folder} are damaged ({what}: not the bytes that were written); delete the folder and run again"
    )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _state(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _mark(folder: Path) -> Any:
    try:
        return json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
