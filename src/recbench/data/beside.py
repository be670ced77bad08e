"""What stands beside the events of prepared data, read from tables of text or Parquet and kept beside them under a hash.

All tables go through the reader of ``data=table``: any separator, packing and encoding, and bad rows named or counted as ``data.bad_rows`` says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.core.disk import disk_errors, write_atomically
from recbench.core.errors import UserError
from recbench.data.download import hash_file
from recbench.data.schema import DataConfig, base_of

if TYPE_CHECKING:
    import polars as pl

    from recbench.data.prepared import PreparedData
    from recbench.data.sources.raw_lines import BadRows, RawText
    from recbench.data.sources.table_open import Table

#: Characters of the name of a kept file.
LONGEST_NAME = 24


def named_files(value: Any, config: DataConfig, key: str) -> list[RawText]:
    """The files that a key names. Raises UserError, that names it, if one is not there."""
    from recbench.data.sources.table_open import files_of

    return files_of(value, base_of(config), key)


def content_of(files: list[RawText], cache_dir: Path) -> list[str]:
    """The hashes of files, and the names of members of archives: what they are, wherever they lie."""
    return [f"{hash_file(text.path, cache_dir)['sha256']}{text.member or ''}" for text in files]


def opened(text: RawText, how: tuple[str | None, bool, str]) -> Table:
    """A table as ``how`` says: (separator or None, whether there is a header, encoding). A Parquet file needs none of it."""
    from recbench.data.sources.separators import typed
    from recbench.data.sources.table_open import open_table
    from recbench.data.sources.text_table import TextFormat

    separator, header, encoding = how
    form = TextFormat(None if separator is None else typed(separator), header, "auto", encoding)
    return open_table(text, form if not _is_parquet(text) else TextFormat())


def read_columns(
    files: list[RawText],
    columns: int | list[str],
    how: tuple[str | None, bool, str],
    bad: BadRows,
    key: str,
    needed: int | None = None,
) -> pl.DataFrame:
    """All rows of some tables: the first so many columns, called "0", "1" ..., or the named ones under their names; all of them text.

    how: as for ``opened``. needed: of the columns, those (from the left) without which a row is a bad row;
    None: all. In the others what is missing is null. Raises UserError for a column that is not there.
    """
    import polars as pl

    frames = []
    for text in files:
        table = opened(text, how)
        wanted = _columns(table, columns, key)
        names = (
            {name: name for name in wanted}
            if isinstance(columns, list)
            else {str(n): name for n, name in enumerate(wanted)}
        )
        for frame in table.batches(wanted, bad):
            values = frame.select(
                "line", **{to: pl.col(name).cast(pl.String).str.strip_chars() for to, name in names.items()}
            )
            values = values.with_columns(pl.when(pl.col(to) != "").then(pl.col(to)).alias(to) for to in names)
            empty = pl.any_horizontal([pl.col(to).is_null() for to in list(names)[:needed]])
            for line in values.filter(empty)["line"]:
                bad.add(table.path, line, "an empty field", unit=table.unit)
            frames.append(values.filter(~empty).drop("line"))
    if not frames or not sum(frame.height for frame in frames):
        raise UserError(f"{key}: {files[0].shown} holds no usable row")
    return pl.concat(frames)


def _is_parquet(text: RawText) -> bool:
    return text.member is None and text.path.suffix.lower() in (".parquet", ".pq")


def _columns(table: Table, columns: int | list[str], key: str) -> list[str]:
    present = table.schema.names()
    if isinstance(columns, int):
        if len(present) < columns:
            raise UserError(
                f"{key}: {table.path} has {len(present)} columns, and {columns} are needed; name what separates them with {key.rpartition('.')[0]}"
                ".separator"
            )
        return present[:columns]
    for name in columns:
        if name not in present:
            shown = ", ".join(present[:20])
            raise UserError(f"{key}: {table.path} has no column '{name}'; it has {shown}")
    return columns


def kept_arrays(
    data: PreparedData, kind: str, asked: Any, make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays that ``make`` makes for what is asked of these data, read again from ``<kind>/<hash>.npz`` if they were made before."""
    text = json.dumps([asked, data.fingerprint], sort_keys=True, default=str)
    path = data.folder / kind / f"{hashlib.blake2b(text.encode(), digest_size=LONGEST_NAME // 2).hexdigest()}.npz"
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as held:
                return {name: held[name] for name in held.files}
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path} is damaged; delete it and run again") from error
    made = make()
    with disk_errors(path.parent, "cache_dir"):
        path.parent.mkdir(exist_ok=True)
        with write_atomically(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **made)  # type: ignore[arg-type]
    return made
