"""The settings of ``data=table``: where the files lie, what their columns are called, and how they are written."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.data.schema import PATH_ONLY, DataConfig, check_choice
from recbench.data.sources.separators import typed

UNITS = ("auto", "s", "ms", "us", "ns", "iso", "calendar")


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
    review: str | None = field(default=None, metadata=LATER)


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
class GivenParts:
    """Training, validation and test that others made, in place of one table (``protocol=given``). Files as for ``path``.

    form: ``rows``, a table as ever; ``lists``, a line a user: its id, then those of its items, between blanks; ``auto`` looks at the file.
    """

    train: Any = field(default=None, metadata=PATH_ONLY)
    validation: Any = field(default=None, metadata=PATH_ONLY)
    test: Any = field(default=None, metadata=PATH_ONLY)
    form: str = "auto"

    def files(self) -> dict[str, Any]:
        """Part -> what names its files, for the parts that there are."""
        return {name: value for name in ("train", "validation", "test") if (value := getattr(self, name))}


@dataclass
class TableConfig(DataConfig):
    """Where the table is and what its columns are called. Relative paths start at ``data.raw_dir`` if that is set.

    path, items_path: a file, a pattern such as ``part-*.csv``, or a list of these.
    """

    name: str = "table"
    path: Any = field(default=None, metadata=PATH_ONLY)
    columns: Columns = field(default_factory=Columns)
    #: Optional table of items, joined by the raw item id.
    items_path: Any = field(default=None, metadata=PATH_ONLY)
    item_columns: ItemColumns = field(default_factory=ItemColumns)
    #: Between the columns of a text file: a character, several, or a word such as tab; null: by the file's ending and first lines.
    separator: str | None = None
    #: Between the categories of an item, where they stand in one text column.
    categories_separator: str = "|"
    #: What a timestamp counts: s, ms, us, ns since 1970, iso for dates as text, calendar for numbers such as 20200914; auto looks at the
    #: first rows.
    timestamp_unit: str = "auto"
    #: Whether the first line of a text file names its columns; if not, they are named by their number from 1.
    header: bool = field(default=True, metadata=LATER)
    #: The same for the item table; null: as header says, but a Parquet file names its columns in any case.
    items_header: bool | None = field(default=None, metadata=LATER)

    #: Of text files.
    encoding: str = field(default="utf-8", metadata=LATER)
    #: Around fields of text files; auto: double quotes where they make sense, null: quotes are part of the text.
    quote: str | None = field(default="auto", metadata=LATER)
    #: How dates are written that are no ISO dates, such as %d/%m/%Y %H:%M, or rfc.
    timestamp_format: str | None = field(default=None, metadata=LATER)
    #: Take blanks from the ends of user and item ids, and .0 from whole numbers.
    tidy_ids: bool = field(default=False, metadata=LATER)
    #: Rows whose user or item is a word such as NaN or NULL: keep | drop.
    missing_ids: str = field(default="keep", metadata=LATER)
    #: In place of path, where others have split the data.
    parts: GivenParts = field(default_factory=GivenParts, metadata=LATER)

    def validate(self) -> None:
        """Raises UserError for missing or contradictory settings."""
        super().validate()
        check_choice("data.timestamp_unit", self.timestamp_unit, UNITS)
        check_choice("data.missing_ids", self.missing_ids, ("keep", "drop"))
        check_choice("data.parts.form", self.parts.form, ("auto", "rows", "lists"))
        parts = self.parts.files()
        if not self.path and not parts:
            raise UserError("data.path is missing; name the table of interactions, for example data.path=events.csv")
        if parts:
            if self.path:
                raise UserError("data.path and data.parts contradict each other; name one table, or the parts of one")
            if lacking := [name for name in ("train", "test") if name not in parts]:
                raise UserError(
                    f"data.parts.{lacking[0]} is missing; data.parts needs train and test, and may have validation"
                )
            if self.session_gap is not None:
                raise UserError("data.session_gap would cut across data.parts; leave it null")
        if not self.columns.user and not self.columns.session:
            raise UserError(
                "data.columns.user and data.columns.session are both null; name the column that groups events"
            )
        if self.separator is not None:
            typed(self.separator)
        if self.quote not in (None, "auto") and (len(self.quote.encode()) != 1 or self.quote.isspace()):
            raise UserError(f"data.quote={self.quote!r} must be auto, null or a single character")
        try:
            codecs.lookup(self.encoding)
        except LookupError as error:
            raise UserError(
                f"data.encoding={self.encoding} is not known; such as utf-8, latin-1, cp1252, utf-16, gbk, shift_jis"
            ) from error
        if self.timestamp_format is not None:
            from recbench.data.sources.table_times import check_format

            if self.timestamp_unit != "auto":
                raise UserError(
                    "data.timestamp_format and data.timestamp_unit contradict each other; leave one at its default"
                )
            check_format(self.timestamp_format)

    def labels(self) -> list[str]:
        return [self.name, self._first_file().name.split(".")[0]]

    def title(self) -> str:
        """Files of parts are all called alike, so the folder that they lie in is named: "table baby"."""
        folder = "" if self.path else self._first_file().parent.name
        return f"{self.name} {folder}" if folder else super().title()

    def _first_file(self) -> Path:
        paths = self.path or self.parts.train
        return Path(str(paths if isinstance(paths, str) else next(iter(paths or []), "")))
