"""Any table of interactions, CSV, TSV or Parquet, whose columns are named in the config; and, beside it, a table of
items.

data=table data.path=events.csv data.columns.user=visitor data.columns.item=sku data.columns.timestamp=clicked_at

A text file may have no header: then its columns are called 1, 2, 3 and so on, by their place.

data=table data.path=events.txt data.header=false data.columns.user=1 data.columns.item=2 data.columns.timestamp=null
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from recbench.core.errors import UserError, nearest
from recbench.data import download
from recbench.data.schema import RawData
from recbench.data.sources.table_config import TableConfig, extension

log = logging.getLogger(__name__)


def locate(config: TableConfig, cache_dir: Path) -> dict[str, dict[str, Any]]:
    """Role and format ("interactions.csv", "items.csv") -> path, size, sha256. Raises UserError for a missing file."""
    return {f"{role}{extension(path)}": download.hash_file(path, cache_dir) for role, path in _paths(config).items()}


def read(config: TableConfig, spool: Path, cache_dir: Path) -> RawData:
    """Check every row and spool it, a batch at a time."""
    from recbench.data.sources.table_items import ItemTable
    from recbench.data.sources.table_rows import Table, spool_rows

    paths = _paths(config)
    if config.header and all(name is None or name.isdecimal() for name in vars(config.columns).values()):
        log.warning(
            "%s: the first line is taken for names of columns; if it is data: data.header=false", paths["interactions"]
        )
    table = Table.open(paths["interactions"], config.separator, spool, config.header)
    counts = spool_rows(table, config, spool / "interactions.parquet")
    return RawData(
        interactions=spool / "interactions.parquet",
        items=ItemTable(paths["items"], config, spool) if "items" in paths else None,
        files=locate(config, cache_dir),
        counts=counts,
        has_timestamps=config.columns.timestamp is not None,
        ticks_per_second=1000,
    )


def _paths(config: TableConfig) -> dict[str, Path]:
    base = Path(config.raw_dir).expanduser() if config.raw_dir else Path()
    paths = {"interactions": base / Path(config.path or "").expanduser()}
    if config.items_path:
        paths["items"] = base / Path(config.items_path).expanduser()
    for role, path in paths.items():
        if not path.is_file():
            key = "data.path" if role == "interactions" else "data.items_path"
            there = sorted(p.name for p in path.parent.iterdir() if p.is_file()) if path.parent.is_dir() else []
            hint = nearest(path.name, there[:20]) if there else f"there is no file in {path.parent.resolve()}"
            raise UserError(f"{key}: there is no file {path}; {hint}")
    return paths
