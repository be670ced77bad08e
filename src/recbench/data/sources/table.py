"""Any table of interactions, CSV, TSV or Parquet, whose columns are named in the config; and, beside it, a table of
items.

data=table data.path=events.csv data.columns.user=visitor data.columns.item=sku data.columns.timestamp=clicked_at

A text file may have no header: then its columns are called 1, 2, 3 and so on, by their place.

data=table data.path=events.txt data.header=false data.columns.user=1 data.columns.item=2 data.columns.timestamp=null
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from recbench.core.errors import UserError, nearest
from recbench.core.key_fields import LATER
from recbench.data import download
from recbench.data.schema import PATH_ONLY, DataConfig, RawData, check_choice

log = logging.getLogger(__name__)

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
UNITS = ("auto", "s", "ms", "us", "ns", "iso")


@dataclass
class Columns:
    """Names of columns in the file, or their numbers from 1 if it has no header; null where there is none.

    Without a user column, a session stands for a user.
    """

    user: str | None = "user"
    item: str = "item"
    timestamp: str | None = "timestamp"
    rating: str | None = None
    session: str | None = None
    behaviour: str | None = None


@dataclass
class ItemColumns:
    """Names of columns in the item table, or their numbers from 1 if it has no header; null where there is none."""

    item: str = "item"
    title: str | None = None
    brand: str | None = None
    categories: str | None = None
    price: str | None = None
    description: str | None = None


@dataclass
class TableConfig(DataConfig):
    """Where the table is and what its columns are called. Relative paths start at ``data.raw_dir`` if that is set."""

    name: str = "table"
    path: str | None = field(default=None, metadata=PATH_ONLY)
    columns: Columns = field(default_factory=Columns)
    #: Optional table of items, joined by the raw item id.
    items_path: str | None = field(default=None, metadata=PATH_ONLY)
    item_columns: ItemColumns = field(default_factory=ItemColumns)
    #: Between the columns of a text file; null: by the file's extension.
    separator: str | None = None
    #: Between the categories of an item, where they stand in one text column.
    categories_separator: str = "|"
    #: What a timestamp counts: s, ms, us, ns since 1970, or iso for dates as text; auto looks at the first rows.
    timestamp_unit: str = "auto"
    #: Whether the first line of a text file names its columns; if not, they are named by their number from 1.
    header: bool = field(default=True, metadata=LATER)
    #: The same for the item table; null: as header says, but a Parquet file names its columns in any case.
    items_header: bool | None = field(default=None, metadata=LATER)

    def validate(self) -> None:
        """Raises UserError for missing or contradictory settings."""
        super().validate()
        check_choice("data.timestamp_unit", self.timestamp_unit, UNITS)
        if not self.path:
            raise UserError("data.path is missing; name the table of interactions, for example data.path=events.csv")
        if not self.columns.user and not self.columns.session:
            raise UserError(
                "data.columns.user and data.columns.session are both null; name the column that groups events"
            )
        if self.separator is not None and len(self.separator.encode()) != 1:
            raise UserError(f"data.separator={self.separator!r} must be a single character")

    def labels(self) -> list[str]:
        return [self.name, Path(self.path or "").name.split(".")[0]]


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


def extension(path: Path) -> str:
    """ ".csv" of both events.csv and events.csv.gz."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def check_columns(configured: Columns | ItemColumns, key: str, path: Path, present: list[str]) -> None:
    """Raises UserError, with the nearest column, if a configured name is not a column of the file."""
    for part in fields(configured):
        name = getattr(configured, part.name)
        if name is not None and name not in present:
            hint = "" if part.name in ("user", "item") else f" (or set data.{key}.{part.name}=null if there is none)"
            if name.isdecimal() and not all(other.isdecimal() for other in present):
                flag = "header" if key == "columns" else "items_header"
                hint += f" (columns have numbers in a file without a header: data.{flag}=false)"
            raise UserError(f"data.{key}.{part.name}={name} is not a column of {path}; {nearest(name, present)}{hint}")


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
