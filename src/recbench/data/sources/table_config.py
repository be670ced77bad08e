"""The settings of ``data=table``: where the file lies, what its columns are called, and which names a file offers."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

from recbench.core.errors import UserError, nearest
from recbench.core.key_fields import LATER
from recbench.data.schema import PATH_ONLY, DataConfig, check_choice

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
