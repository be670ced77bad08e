"""Prepared data brought from another machine: runs find them by their settings, and their raw files need not be here.

``cache_dir/prepared/brought.json`` maps a hash of the settings that decide the content to the folder that holds it. A cache without that file works
as ever: prepared data are found by the hashes of their raw files.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.core.disk import write_atomically
from recbench.core.errors import UserError
from recbench.data.intact import checksums
from recbench.data.once import build_once
from recbench.data.prepared import BESIDE_ITEMS, FORMAT_VERSION, PreparedData, write_manifest
from recbench.data.schema import DataConfig, content_settings

if TYPE_CHECKING:
    from typing import Any

FILE = "brought.json"
#: What prepared data consist of beside their manifest, as ``recbench.data.prepared`` says.
FILES = (
    *(f"{name}.npy" for name in ("items", "offsets", *BESIDE_ITEMS)),
    *(f"{name}.parquet" for name in ("items", "users", "reviews")),
)


def bring(config: DataConfig, data: PreparedData, cache_dir: Path | str) -> Path:
    """Copy prepared data into another cache, and note there which config they belong to. Returns their folder there.

    Only the arrays and tables go along, and nothing that other runs left beside them.
    """
    prepared = Path(cache_dir) / "prepared"
    to = prepared / data.folder.name
    build_once(to, lambda working: _copy(data, working), data.manifest.get("reading", 1))
    noted = {**_noted(prepared), settings_key(config): to.name}
    with write_atomically(prepared / FILE) as temporary:
        temporary.write_text(json.dumps(noted, indent=1) + "\n", encoding="utf-8")
    return to


def _copy(data: PreparedData, to: Path) -> None:
    """Write the files of prepared data into the folder ``to``, which is not there yet."""
    to.mkdir()
    names = [name for name in FILES if (data.folder / name).is_file()]
    for name in names:
        shutil.copy(data.folder / name, to / name)
    manifest = data.manifest
    if (
        "checksums" not in manifest
    ):  # older data are checked by a fingerprint that reads the tables; with checksums they open without Polars
        manifest = {"checksums": checksums(to, names), **manifest}
    write_manifest(to, manifest)


def brought_folder(config: DataConfig, cache_dir: Path | str) -> Path | None:
    """The folder that was brought for this config; None where none was."""
    prepared = Path(cache_dir) / "prepared"
    noted = _noted(prepared)
    name = noted.get(settings_key(config)) if noted else None
    return None if name is None else prepared / name


def settings_key(config: DataConfig) -> str:
    """A hash of what the data of a config are, their raw files left out."""
    content = {"format": FORMAT_VERSION, "labels": list(config.labels()), "settings": content_settings(config)}
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()


def _noted(prepared: Path) -> dict[str, Any]:
    try:
        noted = json.loads((prepared / FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise UserError(f"{prepared / FILE} cannot be read ({error}); delete it, or bring the data again") from error
    return noted if isinstance(noted, dict) else {}
