"""The Parquet file into which a source writes its checked rows, block by block, in file order."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import polars as pl

TYPES = {
    "user": pa.large_string(),
    "item": pa.large_string(),
    "timestamp": pa.int64(),
    "rating": pa.float32(),
    "behaviour": pa.large_string(),
    "session": pa.large_string(),
    "part": pa.int8(),
    "review": pa.large_string(),
}
#: Columns that repeat a handful of values.
FEW_VALUES = ("behaviour", "rating", "part")


class Spool:
    """``with Spool(path, columns) as spool: spool.write(frame)``; user, item and timestamp must not be null."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path = path
        self.rows = 0
        self._schema = pa.schema([(name, TYPES[name]) for name in columns])
        # What is read back once, a moment later, had better be quick than small: lz4, no statistics, and tables of values only where these are few.
        few = [name for name in columns if name in FEW_VALUES]
        self._writer = pq.ParquetWriter(
            path, self._schema, compression="lz4", use_dictionary=few, write_statistics=False
        )

    def write(self, frame: pl.DataFrame) -> None:
        self.rows += frame.height
        self._writer.write_table(frame.select(self._schema.names).to_arrow().cast(self._schema))

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
