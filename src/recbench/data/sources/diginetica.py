"""Diginetica (CIKM Cup 2016, track 2): ``train-item-views.csv``, one view a row.

Columns: sessionId;userId;itemId;timeframe;eventdate. ``timeframe`` counts milliseconds from the first query of the
session and the file is not in its order, so the time of an event is midnight of its date plus its timeframe. That orders
a session rightly; the hour of day it gives means nothing. ``userId`` is mostly missing and is not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbench.data.schema import RawData
from recbench.data.sources.object_store import Wants
from recbench.data.sources.session_logs import (
    HandFetched,
    SessionLogConfig,
    find_file,
    located,
    one_file,
    open_log,
    require_columns,
    spool_log,
)
from recbench.data.sources.table_config import Columns

FILE = HandFetched(
    "train-item-views.csv",
    "Diginetica",
    "the CIKM Cup 2016 track 2 page, https://competitions.codalab.org/competitions/11161",
    "about 40 MB",
)
#: As in the SR-GNN line of papers [Wu et al., AAAI 2019, section 4.1].
PUBLISHED = {"test_days": 7, "min_item_count": 5, "day_dates": True, "users_are_sessions": True}
LAST_MILLISECOND_OF_DAY = 86_399_999


@dataclass
class DigineticaConfig(SessionLogConfig):
    """Settings of ``data=diginetica``."""

    name: str = "diginetica"


def raw_files(config: DigineticaConfig) -> Wants:
    """The one file."""
    return one_file(FILE)


def locate(config: DigineticaConfig, cache_dir: Path) -> dict[str, dict[str, Any]]:
    """Raises UserError saying what to put where."""
    return located([find_file(config, cache_dir, FILE)], cache_dir)


def read(config: DigineticaConfig, spool: Path, cache_dir: Path) -> RawData:
    """Check every row and spool it."""
    import polars as pl

    path = find_file(config, cache_dir, FILE)
    table = open_log(path, ";")
    names = require_columns(table, ("sessionId", "itemId", "timeframe", "eventdate"))
    midnight = pl.col(names["eventdate"]).str.to_datetime("%Y-%m-%d", strict=False, time_unit="ms").dt.epoch("ms")
    # A session stays on its date, however long it lasts: the cut by days looks at the date.
    since = pl.col(names["timeframe"]).cast(pl.Int64, strict=False).clip(0, LAST_MILLISECOND_OF_DAY)
    table.compute("milliseconds", midnight + since, (names["eventdate"], names["timeframe"]))
    columns = Columns(user=names["sessionId"], item=names["itemId"], timestamp="milliseconds")
    return spool_log(table, columns, "ms", config, spool, locate(config, cache_dir), PUBLISHED)
