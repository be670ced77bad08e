"""What the raw session logs share: they must be fetched by hand, and a row of theirs says session, item and time.

What the papers do with a log when they make its benchmark travels in the manifest, under ``extra.sessions``, to the
protocol ``sessions``; any value of it can be overruled there. A missing key means: nothing is known.

- ``test_days``: how many days at the end are the test
- ``min_item_count``: items with fewer events are left out
- ``day_dates``: true where the published cut knows whole days only
- ``train_fraction``: such as "1/64": only the most recent share of training is used
- ``users_are_sessions``: true where the log groups events by session and by nothing else
- ``lines``: true for files without a clock, whose sessions are named ``train:LINE`` or ``test:LINE`` and stand in order
- ``border``: true where those names tell training from test
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.core.errors import MissingData, UserError
from recbench.data import download
from recbench.data.schema import DataConfig, RawData
from recbench.data.sources.object_store import Wants
from recbench.data.sources.table_config import Columns, TableConfig

if TYPE_CHECKING:
    from recbench.data.sources.text_table import TextTable


#: Of the rules by which the rows are read; see ``recbench.data.sources.table``.
READING = 2


@dataclass
class SessionLogConfig(DataConfig):
    """Settings of every session log. No k-core: it would drop short sessions; the protocol filters rare items instead."""

    k_core: int = 0

    def labels(self) -> list[str]:
        return [self.name]


@dataclass(frozen=True)
class HandFetched:
    """A file that is not fetched for you: its name, what it belongs to, the page or archive that has it, and about how large it is."""

    name: str
    title: str
    origin: str
    size: str


def find_file(config: DataConfig, cache_dir: Path, wanted: HandFetched) -> Path:
    """The file, or its gzip form, in ``data.raw_dir`` or the cache. Raises UserError saying what to put where."""
    folders = [cache_dir / "raw" / config.name]
    if config.raw_dir is not None:
        folders.insert(0, raw_folder(config.raw_dir, wanted.name))
    for folder in folders:
        for name in (wanted.name, f"{wanted.name}.gz"):
            if (folder / name).is_file():
                return folder / name
    raise MissingData(
        f"no {wanted.name} (or {wanted.name}.gz) of {wanted.title} in {', '.join(str(folder) for folder in folders)}; it "
        f"cannot be fetched without you: get it from {wanted.origin} ({wanted.size}), put it there, or name its folder with data.raw_dir"
    )


def one_file(wanted: HandFetched) -> Wants:
    """What a source of a single file reads of ``data.raw_dir``."""
    return [[[[wanted.name, f"{wanted.name}.gz"]]]]


def raw_folder(raw_dir: str, holds: str) -> Path:
    """Raises UserError if ``data.raw_dir`` is not a folder."""
    folder = Path(raw_dir).expanduser()
    if not folder.is_dir():
        raise UserError(f"data.raw_dir={raw_dir} is not a folder; name the folder that holds {holds}")
    return folder


def located(paths: list[Path], cache_dir: Path) -> dict[str, dict[str, Any]]:
    """Name, less any ``.gz``, -> path, size, sha256."""
    return {path.name.removesuffix(".gz"): download.hash_file(path, cache_dir) for path in paths}


def open_log(path: Path, separator: str, names: tuple[str, ...] | None = None) -> TextTable:
    """A text table with every column as text; ``names``: its columns, where it has no header. Raises UserError for an unreadable file."""
    from recbench.data.sources.raw_lines import RawText
    from recbench.data.sources.text_table import TextFormat, TextTable

    return TextTable(RawText(path), TextFormat(separator, header=names is None), names)


def require_columns(table: TextTable, wanted: tuple[str, ...]) -> dict[str, str]:
    """wanted name -> the file's name for it; case and underscores do not count, since copies of these logs differ in them.

    Raises UserError that names the columns which are missing.
    """
    present = {_plain(name): name for name in table.schema.names()}
    missing = [name for name in wanted if _plain(name) not in present]
    if missing:
        raise UserError(
            f"{table.path} has no column {' and no column '.join(missing)}; it has: {', '.join(table.schema.names())}"
        )
    return {name: present[_plain(name)] for name in wanted}


def _plain(name: str) -> str:
    return name.lower().replace("_", "").strip('\ufeff "')


def spool_log(
    table: TextTable,
    columns: Columns,
    unit: str,
    config: DataConfig,
    spool: Path,
    files: dict[str, dict[str, Any]],
    published: dict[str, Any],
) -> RawData:
    """Write the good rows to the folder ``spool``; what was read, with what the papers do with it (see the head of this file)."""
    from recbench.data.sources.table_rows import spool_rows

    as_table = TableConfig(path=str(table.path), columns=columns, timestamp_unit=unit, bad_rows=config.bad_rows)
    interactions = spool / "interactions.parquet"
    return RawData(
        interactions=interactions,
        files=files,
        counts=spool_rows([table], as_table, interactions),
        extra={"sessions": published},
        ticks_per_second=1000,
    )
