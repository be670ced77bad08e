"""Any file that holds a table, opened: text, one JSON object a line, or Parquet; and which files a setting names."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recbench.core.errors import UserError, first_line, nearest
from recbench.data.sources.object_store import partition_of
from recbench.data.sources.raw_lines import BadRows, RawText, line_blocks
from recbench.data.sources.text_table import HEAD_BYTES, TextFormat, TextTable, suffix_of
from recbench.data.sources.zip_members import LISTED_MEMBERS, members

BATCH_ROWS = 500_000
#: Endings of what is no table, and of tables that must be saved in another form first.
NO_TABLES = (
    ".xls", ".xlsx", ".ods", ".json.zst", ".feather", ".arrow", ".orc", ".avro", ".h5", ".hdf5", ".npz", ".npy", ".pkl", ".pickle", ".mat",
    ".db", ".sqlite", ".tar", ".tgz", ".7z", ".rar", ".zst",
)  # fmt: skip
JSON_LINES = (".jsonl", ".ndjson", ".json")


class Table(Protocol):
    """A table whose columns are known. ``batches``: frames with the number of each row (``unit``: a line or a row) in ``line``, then the
    columns that are asked for; what is no row is named or counted by ``bad``. size: bytes that are read at a time, as far as that can be said."""

    path: Path
    unit: str

    @property
    def schema(self) -> pl.Schema: ...

    def doubled(self, name: str) -> bool: ...

    def batches(self, columns: list[str], bad: BadRows, size: int | None = None) -> Iterator[pl.DataFrame]: ...


def files_of(value: Any, base: Path, key: str) -> list[RawText]:
    """The files that a setting names: one path, or several in brackets, each of which may be a pattern such as ``part-*.csv``.

    Raises UserError, that names the key, if one is not there, is a folder, is named twice, or is an archive of several files.
    """
    named = [value] if isinstance(value, str | Path | int | float) else list(value)
    found: list[RawText] = []
    for name in named:
        path = base / Path(str(name)).expanduser()
        if path.is_dir() and (parts := parquet_parts(path)):
            found += [_text(p, key) for p in parts]
        elif any(c in str(name) for c in "*?[") and not path.exists():
            fitting = [Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if Path(p).is_file()]
            if not fitting:
                raise UserError(f"{key}: no file fits {path}")
            found += [_text(p, key) for p in fitting]
        else:
            found.append(_text(path, key))
    twice = [text for at, text in enumerate(found) if text in found[:at]]
    if twice:
        raise UserError(f"{key} names {twice[0].shown} twice; its rows would count twice")
    return found


def parquet_parts(folder: Path) -> list[Path]:
    """The Parquet files of a folder as Spark writes it, in order: parts at any depth (``day=2014-07-01/part-00000.parquet``), without what begins
    with ``_`` or ``.``, such as ``_SUCCESS`` and files of a job that was cut off. None for a folder without any."""
    return sorted(
        path
        for path in folder.rglob("*.parquet")
        if path.is_file() and not any(part[0] in "_." for part in path.relative_to(folder).parts)
    )


def _text(path: Path, key: str) -> RawText:
    if path.is_dir():
        raise UserError(f"{key}: {path} is a folder; name the files in it, as in {key}='{path.name}/*.csv'")
    if not path.is_file():
        archive = next(
            (parent for parent in path.parents if parent.suffix.lower() == ".zip" and parent.is_file()), None
        )
        if archive is None:
            there = sorted(p.name for p in path.parent.iterdir() if p.is_file()) if path.parent.is_dir() else []
            hint = nearest(path.name, there[:20]) if there else f"there is no file in {path.parent.resolve()}"
            raise UserError(f"{key}: there is no file {path}; {hint}")
        inside = path.relative_to(archive).as_posix()
        if inside not in members(archive):
            raise UserError(f"{key}: {archive} has no {inside}; {nearest(inside, members(archive)[:LISTED_MEMBERS])}")
        return RawText(archive, inside)
    if path.suffix.lower() in NO_TABLES:
        raise UserError(
            f"{path}: {key} must be text (such as .csv or .tsv, also with .gz, .bz2, .xz or .zip), .jsonl or .parquet"
        )
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise UserError(f"{path} is a workbook, not a text table; save it as .csv")
    if head.startswith(b"PK\x03\x04"):
        held = members(path)
        if "[Content_Types].xml" in held:
            raise UserError(f"{path} is a workbook, not a text table; save it as .csv")
        if len(held) != 1:
            listed = ", ".join(held[:LISTED_MEMBERS]) + (" ..." if len(held) > LISTED_MEMBERS else "")
            raise UserError(
                f"{path} holds {len(held)} files ({listed}); name one, as in {key}={path}/{held[0] if held else 'FILE'}"
            )
        return RawText(path, held[0])
    return RawText(path)


def sample(table: Table, column: str, rows: int = 1000) -> pl.Series:
    """The first values of a column; rows that cannot be read are left out."""
    if isinstance(table, ParquetTable):
        return table.head(column, rows)
    frame = next(iter(table.batches([column], BadRows("skip"), HEAD_BYTES)), None)
    return pl.Series([], dtype=pl.String) if frame is None else frame[column].head(rows)


def open_table(text: RawText, how: TextFormat) -> Table:
    """Raises UserError for an unknown or broken format."""
    suffix = suffix_of(text)
    if text.member is None:
        with text.path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet or suffix in (".parquet", ".pq"):
            if not how.header:
                raise UserError(
                    f"{text.path} is a Parquet file, which names its columns; header=false is for text files"
                )
            return ParquetTable(text.path)
    if suffix in JSON_LINES:
        return JsonLines(text, how.encoding)
    return TextTable(text, how)


class ParquetTable:
    """With the columns that its folders name, as Spark and Hive write them (``day=2014-07-01/part-0.parquet``), as text. Raises UserError for a
    broken file and for one that has two columns of one name."""

    unit = "row"

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            names = pq.read_schema(path).names
            twice = [name for at, name in enumerate(names) if name in names[:at]]
            if twice:
                raise UserError(f"{path} has two columns called '{twice[0]}'; rename one of them")
            held = {column: value for column, value in partition(path).items() if column not in names}
            self.scan = pl.scan_parquet(path, glob=False, hive_partitioning=False).with_columns(
                pl.lit(value, pl.String).alias(column) for column, value in held.items()
            )
            self.schema = self.scan.collect_schema()
        except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise UserError(f"{path} cannot be read as a table: parquet: {first_line(error)}") from error

    def doubled(self, name: str) -> bool:
        return False

    def batches(self, columns: list[str], bad: BadRows, size: int | None = None) -> Iterator[pl.DataFrame]:
        wanted = self.scan.with_row_index("line", offset=1).select("line", *columns)
        try:
            yield from wanted.collect_batches(chunk_size=BATCH_ROWS)
        except pl.exceptions.PolarsError as error:
            raise UserError(f"{self.path} cannot be read as a table: {first_line(error)}") from error

    def head(self, column: str, rows: int) -> pl.Series:
        """The first values of a column. Raises UserError for a broken file."""
        try:
            return self.scan.select(column).head(rows).collect().to_series()
        except pl.exceptions.PolarsError as error:
            raise UserError(f"{self.path} cannot be read as a table: {first_line(error)}") from error


def partition(path: Path) -> dict[str, str | None]:
    """Column -> value of the folders of a partitioned table right above a file; None where Hive says that there is none."""
    found = {column: unquote(value) for column, value in partition_of(path.as_posix())}
    return {column: None if value == "__HIVE_DEFAULT_PARTITION__" else value for column, value in found.items()}


class JsonLines:
    """One JSON object a line. Columns are the keys of the first objects; values are text, lists stay lists."""

    unit = "line"

    def __init__(self, text: RawText, encoding: str) -> None:
        self.text, self.encoding, self.path = text, encoding, text.shown
        names: dict[str, pl.DataType | type[pl.DataType]] = {}
        for _, block in line_blocks(text.path, HEAD_BYTES, text.member, encoding):
            if block.lstrip().startswith(b"["):
                raise UserError(f"{self.path} holds one JSON list; write one object a line (.jsonl)")
            for line in block.splitlines()[:1000]:
                found = _object(line)
                for key, value in (found or {}).items():
                    if value is not None or key not in names:
                        names[key] = pl.List(pl.String) if isinstance(value, list) else pl.String
            break
        if not names:
            raise UserError(f"{self.path} cannot be read as a table: its first lines are no JSON objects")
        self.schema = pl.Schema(names)

    def doubled(self, name: str) -> bool:
        return False

    def batches(self, columns: list[str], bad: BadRows, size: int | None = None) -> Iterator[pl.DataFrame]:
        lists = [name for name in columns if self.schema[name] != pl.String]
        for first, block in line_blocks(self.text.path, size, self.text.member, self.encoding):
            numbers: list[int] = []
            values: dict[str, list[Any]] = {name: [] for name in columns}
            for number, line in enumerate(block.removesuffix(b"\n").split(b"\n"), start=first):
                if not line.strip():
                    continue
                found = _object(line)
                if found is None:
                    bad.add(self.path, number, "no JSON object")
                    continue
                numbers.append(number)
                for name in columns:
                    value = found.get(name)
                    values[name].append(_list(value) if name in lists else _word(value))
            yield pl.DataFrame(
                {"line": pl.Series(numbers, dtype=pl.Int64)}
                | {name: pl.Series(found, dtype=self.schema[name]) for name, found in values.items()}
            )


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _word(value: Any) -> str | None:
    """A value as the text that it was, as far as it can be."""
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def _list(value: Any) -> list[str | None] | None:
    if value is None:
        return None
    return [_word(part) for part in value] if isinstance(value, list) else [_word(value)]
