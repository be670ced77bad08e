"""Yoochoose (RecSys Challenge 2015): ``yoochoose-clicks.dat``, one click a row, comma-separated, without a header.

Columns: session, time in ISO form, item, category of the page (not read). The benchmark uses the most recent 1/64 or 1/4
of training only. That share is taken by the protocol, after its cut and its filter, as the papers do: item counts look at
the complete log.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbench.core.errors import UserError
from recbench.data.schema import RawData, check_choice
from recbench.data.sources.object_store import Wants
from recbench.data.sources.session_logs import (
    HandFetched,
    SessionLogConfig,
    find_file,
    located,
    one_file,
    open_log,
    spool_log,
)
from recbench.data.sources.table_config import Columns

FILE = HandFetched(
    "yoochoose-clicks.dat",
    "Yoochoose",
    "the RecSys Challenge 2015 archive yoochoose-data, https://s3-eu-west-1.amazonaws.com/yc-rdata/yoochoose-data.7z",
    "about 1.4 GB unpacked",
)
COLUMNS = ("session", "time", "item", "category")
FRACTIONS = ("1", "1/4", "1/64")


@dataclass
class YoochooseConfig(SessionLogConfig):
    """Settings of ``data=yoochoose``."""

    name: str = "yoochoose"
    #: The most recent share of training that is used: 1/64, 1/4 or 1. Known to protocol=sessions only.
    fraction: str = "1/64"

    def validate(self) -> None:
        """Raises UserError for an unknown fraction."""
        super().validate()
        check_choice("data.fraction", self.fraction, FRACTIONS)

    def labels(self) -> list[str]:
        return [self.name, self.fraction]


def raw_files(config: YoochooseConfig) -> Wants:
    """The one file."""
    return one_file(FILE)


def locate(config: YoochooseConfig, cache_dir: Path) -> dict[str, dict[str, Any]]:
    """Raises UserError saying what to put where."""
    return located([find_file(config, cache_dir, FILE)], cache_dir)


def read(config: YoochooseConfig, spool: Path, cache_dir: Path) -> RawData:
    """Check every row and spool it. Raises UserError if the file has fewer columns than it should."""
    path = find_file(config, cache_dir, FILE)
    table = open_log(path, ",", COLUMNS)
    if not set(COLUMNS[:3]) <= set(table.schema.names()):
        found = len(table.schema.names())
        raise UserError(
            f"{path} has {found} of the columns {', '.join(COLUMNS)}; without a session there is nothing to read"
        )
    columns = Columns(user="session", item="item", timestamp="time")
    published = {"test_days": 1, "min_item_count": 5, "users_are_sessions": True, "train_fraction": config.fraction}
    return spool_log(table, columns, "iso", config, spool, locate(config, cache_dir), published)
