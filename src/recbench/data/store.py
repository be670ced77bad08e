"""Data prepared once and reused by every run.

``cache_dir/prepared/<name>-<version>-<category>-<key>/``, where the key is a hash of the settings that decide the
content, of the raw files' hashes and of the format: the same data are found again whatever folder the raw files lie in.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.core.disk import disk_errors
from recbench.data.brought import brought_folder
from recbench.data.local_files import local_config
from recbench.data.once import build_once
from recbench.data.prepared import FORMAT_VERSION, PreparedData
from recbench.data.schema import DataConfig, RawData, content_settings
from recbench.data.sources import Source, lookup

if TYPE_CHECKING:
    import polars as pl

__all__ = ["PreparedData", "prepare"]

log = logging.getLogger(__name__)


def prepare(config: DataConfig, cache_dir: Path | str) -> PreparedData:
    """The prepared data of a config, made if they are not there yet.

    Of two processes that ask at once, one prepares and the other waits and reuses. A folder gets its name only when it
    is complete; what a killed process left behind is removed by the next one. Raises UserError for anything the user
    can mend: missing or damaged files, unusable rows, a filter that leaves nothing, a disk that is full or read-only.
    """
    cache_dir = Path(cache_dir).expanduser()
    source = lookup(config.name)
    config.validate()
    with disk_errors(cache_dir, "cache_dir"):
        if (there := brought_folder(config, cache_dir)) is not None:
            return PreparedData.open(there)
        config = local_config(config, cache_dir)
        files = source.locate(config, cache_dir) if source.locate else {}
        folder = cache_dir / "prepared" / folder_name(config, files)
        build_once(folder, lambda working: _build(config, source, working, cache_dir), source.reading)
    return PreparedData.open(folder)


def folder_name(config: DataConfig, files: dict[str, dict[str, Any]]) -> str:
    """What can be read by a person, then the key."""
    content = {
        "format": FORMAT_VERSION,
        "settings": content_settings(config),
        "files": {name: entry["sha256"] for name, entry in sorted(files.items())},
    }
    key = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()
    words = "-".join("".join(c if c.isalnum() else "_" for c in label) for label in config.labels())
    return f"{words}-{key}"


def _build(config: DataConfig, source: Source, working: Path, cache_dir: Path) -> None:
    """Read, clean and write into the folder ``working``."""
    from recbench.data.cleaning import clean

    started = time.perf_counter()
    spool = working / "spool"
    spool.mkdir(parents=True)
    log.info("preparing %s", " ".join(config.labels()))
    raw = source.read(config, spool, cache_dir)
    cleaned = clean(raw, config)
    extra = dict(raw.extra)
    if cleaned.parts is not None:
        from recbench.data.given_parts import compared

        timestamps, extra["parts"] = compared(cleaned, config.labels()[-1])
        cleaned.timestamps = timestamps
    items = _item_table(raw, cleaned.item_ids)
    data = PreparedData.from_arrays(
        working,
        cleaned.items,
        cleaned.offsets,
        cleaned.timestamps,
        cleaned.behaviours,
        items,
        sessions=cleaned.sessions,
        parts=cleaned.parts,
        kept=cleaned.kept,
        user_ids=cleaned.user_ids,
        behaviour_names=cleaned.behaviour_names,
        details={
            "settings": content_settings(config),
            "files": raw.files,
            "counts": raw.counts,
            "cleaning": cleaned.steps,
            "extra": extra,
            **({"reading": source.reading} if source.reading > 1 else {}),
        },
    )
    # The arrays of a long log lie here until they are copied.
    shutil.rmtree(spool)
    for step in cleaned.steps:
        log.info(
            "  after %-10s %12s rows %10s users %10s items",
            step["step"],
            *(f"{step[n]:,}" for n in ("rows", "users", "items")),
        )
    log.info("prepared %s interactions in %.1f s", f"{data.n_interactions:,}", time.perf_counter() - started)


def _item_table(raw: RawData, item_ids: pl.Series) -> pl.DataFrame:
    """One row an item in the order of ids; items of which nothing is known keep their raw id only."""
    import polars as pl

    wanted = pl.DataFrame({"item": item_ids})
    if raw.items is None:
        return wanted
    known = raw.items(item_ids) if callable(raw.items) else raw.items
    return wanted.join(known.unique("item", keep="first"), on="item", how="left", maintain_order="left")
