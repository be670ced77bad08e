"""Sessions as somebody else prepared them: text files, one session a line, item ids between blanks, in order of date.

``train`` and ``test`` are two such files, and the border between them is the test cut of the protocol ``sessions``. There
is no clock. A session is named after its file and line, ``train:17``, which keeps the order. Nothing is filtered again:
whoever made the files has done so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbench.core.errors import UserError
from recbench.data.schema import PATH_ONLY, RawData
from recbench.data.sources.object_store import Wants, is_address
from recbench.data.sources.session_logs import SessionLogConfig, located, raw_folder

PARTS = ("train", "test")


@dataclass
class SessionFileConfig(SessionLogConfig):
    """Settings of ``data=session_file``. Relative paths start at ``data.raw_dir``; a file may also be there as ``.gz``."""

    name: str = "session_file"
    train: str = field(default="train.txt", metadata=PATH_ONLY)
    #: null: one file only, whose last sessions become the test.
    test: str | None = field(default="test.txt", metadata=PATH_ONLY)

    def labels(self) -> list[str]:
        """The category, or the name of the folder."""
        return [self.name, self.category or _folder_name(self)]


def locate(config: SessionFileConfig, cache_dir: Path) -> dict[str, dict[str, Any]]:
    """Part -> path, size, sha256. Raises UserError for a missing file."""
    return {part: next(iter(located([path], cache_dir).values())) for part, path in _paths(config).items()}


def read(config: SessionFileConfig, spool: Path, cache_dir: Path) -> RawData:
    """Spool every line. Raises UserError if a file is damaged or no text."""
    from recbench.data.sources.spool import Spool

    counts = {"rows_read": 0}
    with Spool(spool / "interactions.parquet", ("user", "item", "timestamp")) as out:
        for part, path in _paths(config).items():
            before = out.rows
            for frame in _frames(part, path):
                out.write(frame)
            counts[f"rows_{part}"] = out.rows - before
            if out.rows == before:
                raise UserError(f"{path} holds no session; it needs one a line, item ids separated by blanks")
        counts["rows_read"] = out.rows
    return RawData(
        interactions=spool / "interactions.parquet",
        files=locate(config, cache_dir),
        counts=counts,
        has_timestamps=False,
        extra={"sessions": {"lines": True, "border": config.test is not None, "users_are_sessions": True}},
    )


def _frames(part: str, path: Path) -> Any:
    """user ("train:17", lines count from 1), item, timestamp (0), block by block; an empty line is no session."""
    import polars as pl

    from recbench.data.sources.raw_lines import line_blocks

    for first, block in line_blocks(path):
        try:
            lines = block.decode("utf-8").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not text near its line {first}; is it a session file?") from error
        frame = pl.DataFrame({"line": lines}).with_row_index("number", offset=first)
        yield (
            frame.select(
                user=pl.format(f"{part}:{{}}", "number"),
                item=pl.col("line").str.extract_all(r"\S+"),
                timestamp=pl.lit(0, pl.Int64),
            )
            .explode("item")
            .drop_nulls("item")
        )


def raw_files(config: SessionFileConfig) -> Wants:
    """Each of the files, also packed."""
    names = [name for name in (config.train, config.test) if name]
    return [[[[name, f"{name}.gz"]]] for name in names]


def _folder_name(config: SessionFileConfig) -> str:
    if is_address(config.raw_dir):
        return str(config.raw_dir).rstrip("/").rpartition("/")[2]
    if is_address(config.train):
        return config.train.split("/")[-2]
    return _paths(config)["train"].resolve().parent.name


def _paths(config: SessionFileConfig) -> dict[str, Path]:
    base = raw_folder(config.raw_dir, "train.txt and test.txt") if config.raw_dir else Path()
    found = {}
    for part in PARTS:
        name = getattr(config, part)
        if name is None:
            continue
        path = base / Path(name).expanduser()
        there = [candidate for candidate in (path, path.with_name(f"{path.name}.gz")) if candidate.is_file()]
        if not there:
            alone = ", or set data.test=null if there is but one" if part == "test" else ""
            raise UserError(
                f"data.{part}: there is no file {path} (or {path.name}.gz); name the files with data.raw_dir=FOLDER, "
                f"data.train and data.test{alone}"
            )
        found[part] = there[0]
    return found
