"""RetailRocket: ``events.csv``, one event a row: view, addtocart or transaction.

Columns: timestamp (milliseconds), visitorid, event, itemid, transactionid (not read). There are no sessions in it: visitors
are cut where they pause for longer than ``session_gap``. The kind of event is kept as its behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    "events.csv",
    "RetailRocket",
    "Kaggle, https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset",
    "about 94 MB",
)
PUBLISHED = {"min_item_count": 5}


@dataclass
class RetailrocketConfig(SessionLogConfig):
    """Settings of ``data=retailrocket``."""

    name: str = "retailrocket"
    #: Half an hour, the usual cut.
    session_gap: int | None = field(default=1800)


def raw_files(config: RetailrocketConfig) -> Wants:
    """The one file."""
    return one_file(FILE)


def locate(config: RetailrocketConfig, cache_dir: Path) -> dict[str, dict[str, Any]]:
    """Raises UserError saying what to put where."""
    return located([find_file(config, cache_dir, FILE)], cache_dir)


def read(config: RetailrocketConfig, spool: Path, cache_dir: Path) -> RawData:
    """Check every row and spool it."""
    path = find_file(config, cache_dir, FILE)
    table = open_log(path, ",")
    names = require_columns(table, ("timestamp", "visitorid", "event", "itemid"))
    columns = Columns(
        user=names["visitorid"], item=names["itemid"], timestamp=names["timestamp"], behaviour=names["event"]
    )
    return spool_log(table, columns, "ms", config, spool, locate(config, cache_dir), PUBLISHED)
