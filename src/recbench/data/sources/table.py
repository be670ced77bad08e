"""Any table of interactions, text, JSON lines or Parquet, whose columns are named in the config; and, beside it, a table of
items.

data=table data.path=events.csv data.columns.user=visitor data.columns.item=sku data.columns.timestamp=clicked_at

A text file may have no header: then its columns are called 1, 2, 3 and so on, by their place.

data=table data.path=events.txt data.header=false data.columns.user=1 data.columns.item=2 data.columns.timestamp=null
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.data import download
from recbench.data.schema import RawData, base_of
from recbench.data.sources.table_config import TableConfig

if TYPE_CHECKING:
    from recbench.data.sources.raw_lines import RawText

log = logging.getLogger(__name__)

#: Of the rules by which files are read. Raised where a file may be read otherwise than before: what was prepared by older rules is read anew.
READING = 2


def locate(config: TableConfig, cache_dir: Path) -> dict[str, dict[str, Any]]:
    """Role and format ("interactions.csv", "items.csv") -> path, size, sha256. Raises UserError for a missing file."""
    from recbench.data.sources.text_table import suffix_of

    found = {}
    for role, texts in _files(config).items():
        for at, text in enumerate(texts):
            number = f"-{at:05d}" if len(texts) > 1 else ""
            entry = download.hash_file(text.path, cache_dir)
            member = f" {text.member}" if text.member else ""
            found[f"{role}{number}{suffix_of(text)}{member}{_read_of_folders(text, config)}"] = entry
    return found


def read(config: TableConfig, spool: Path, cache_dir: Path) -> RawData:
    """Check every row and spool it, a batch at a time."""
    from recbench.data.sources.table_columns import text_format
    from recbench.data.sources.table_items import ItemTable
    from recbench.data.sources.table_open import open_table
    from recbench.data.sources.table_rows import spool_rows

    files = _files(config)
    items = ItemTable(files.pop("items"), config) if "items" in files else None
    if config.parts.files():
        from recbench.data.sources.table_parts import spool_parts

        counts, timed = spool_parts(files, config, spool / "interactions.parquet")
        return RawData(
            interactions=spool / "interactions.parquet",
            items=items,
            files=locate(config, cache_dir),
            counts=counts,
            has_timestamps=timed,
            ticks_per_second=1000,
            given_parts=True,
        )
    if config.header and all(name is None or name.isdecimal() for name in vars(config.columns).values()):
        log.warning(
            "%s: the first line is taken for names of columns; if it is data: data.header=false",
            files["interactions"][0].shown,
        )
    tables = [open_table(text, text_format(config, config.header)) for text in files["interactions"]]
    counts = spool_rows(tables, config, spool / "interactions.parquet")
    return RawData(
        interactions=spool / "interactions.parquet",
        items=items,
        files=locate(config, cache_dir),
        counts=counts,
        has_timestamps=config.columns.timestamp is not None,
        ticks_per_second=1000,
    )


def _read_of_folders(text: RawText, config: TableConfig) -> str:
    """What a file's rows take from the names of its folders: part of what the file is. Empty where no such column is asked for."""
    from recbench.data.sources.table_open import partition

    asked = {name for name in (*vars(config.columns).values(), *vars(config.item_columns).values()) if name}
    return "".join(f" {name}={value}" for name, value in partition(text.path).items() if name in asked)


def _files(config: TableConfig) -> dict[str, list[RawText]]:
    from recbench.data.sources.table_open import files_of

    base = base_of(config)
    parts = config.parts.files()
    files = {name: files_of(value, base, f"data.parts.{name}") for name, value in parts.items()}
    if not parts:
        files["interactions"] = files_of(config.path, base, "data.path")
    if config.items_path:
        files["items"] = files_of(config.items_path, base, "data.items_path")
    return files
