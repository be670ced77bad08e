"""Impressions: what users were shown, with a label; in the numbers of the prepared data, stored beside them.

A row is one item shown to one user. It is no event: the events of the prepared data are the positive log, and a row says by ``history_end`` how much
of its user's log was over when it was shown. So nothing is padded or copied, and no history can hold the row's own click or anything later.

Rows stand in order of time, then user, then request, then place. Rows of users or items that the prepared data do not have (cleaning removed
them, or nobody chose the item) are left out and counted. N rows, U users, I items.

A source gives them as a Parquet file (``impressions(config, to)``, see ``recbench.data.schema``) with the columns

    user, item   raw ids · timestamp, int64 Unix seconds · label, int8: 1 chosen, 0 not
    request      int64, optional: rows of one request were shown together; without it each row is one of its own
    place        int16, optional: 0 at the top of its request; without it the order of the file within the request
    and any others, each a field of the context such as "device"

The folder of the prepared data then holds ``impressions/<key>/`` with ``user, item, label, timestamp, request, place, history_end`` as ``.npy``,
``context.parquet`` with the further columns in the same order, and ``manifest.json`` with counts and the fingerprint of all of it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.core.disk import disk_errors, remove_leftovers, whole_folder
from recbench.core.errors import UserError
from recbench.core.key_fields import enters_no_key
from recbench.data.older_events import events_before_rows
from recbench.data.schema import DataConfig
from recbench.data.sources import lookup

if TYPE_CHECKING:
    import polars as pl

    from recbench.data.prepared import PreparedData

#: Raised whenever the same rows would be stored otherwise.
IMPRESSIONS_VERSION = 1
#: Settings of data that say nothing about what its source makes.
ELSEWHERE = ("text", "features", "knowledge", "users", "raw_dir")
#: Columns with a meaning of their own; any other is context.
NAMED = ("user", "item", "timestamp", "label", "request", "place")
ARRAYS = {
    "user": np.int32, "item": np.int32, "label": np.int8, "timestamp": np.int64, "request": np.int64, "place": np.int16, "history_end": np.int64,
}  # fmt: skip


@dataclass(frozen=True)
class Impressions:
    """N rows, memory-mapped.

    user int32 [N] in 0..U-1 · item int32 [N] in 1..I · label int8 [N] · timestamp int64 [N], ascending · request int64 [N] · place int16 [N] ·
    history_end int64 [N]: position in the flat arrays of the data behind the user's last event that is older than the row, so that the history is
    ``data.offsets[user] : history_end``; events at the row's own time are not in it.
    fingerprint: equal exactly where all of this is equal. counts: rows read, and left out by reason.
    """

    folder: Path
    user: np.ndarray
    item: np.ndarray
    label: np.ndarray
    timestamp: np.ndarray
    request: np.ndarray
    place: np.ndarray
    history_end: np.ndarray
    fingerprint: str
    counts: dict[str, int]

    def __len__(self) -> int:
        return len(self.user)

    def context(self) -> pl.DataFrame:
        """[N rows] the further columns, such as ``device``; no column where there are none."""
        import polars as pl

        return pl.read_parquet(self.folder / "context.parquet")

    @classmethod
    def open(cls, folder: Path) -> Impressions:
        """Raises UserError where the folder does not hold a complete set of them."""
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
        except (OSError, ValueError) as error:
            raise UserError(f"the impressions in {folder} are damaged; delete the folder and run again") from error
        return cls(folder, **arrays, fingerprint=manifest["fingerprint"], counts=manifest["counts"])


def has_impressions(config: DataConfig) -> bool:
    """Whether the source of these data has impressions."""
    return "impressions" in lookup(config.name).beside


def impressions(data: PreparedData, config: DataConfig) -> Impressions:
    """The impressions of prepared data (not of a view of them), made if they are not there yet.

    Raises UserError where the source has none, where the data have no clock, and where no row is left.
    """
    from filelock import FileLock

    make = lookup(config.name).beside.get("impressions")
    if make is None:
        raise UserError(f"data={config.name} has no impressions: rows of items that were shown, with a label")
    if not data.has_timestamps:
        raise UserError(f"impressions need the times of the events, and data={config.name} has none")
    asked = json.dumps([IMPRESSIONS_VERSION, beside_values(config)], sort_keys=True, default=str)
    folder = data.folder / "impressions" / hashlib.blake2b(asked.encode(), digest_size=8).hexdigest()
    with disk_errors(folder.parent, "cache_dir"):
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not (folder / "manifest.json").is_file():
                remove_leftovers(folder)
                with whole_folder(folder) as working:
                    working.mkdir()
                    counts = make(config, working / "raw.parquet")
                    _store(data, working, counts)
                    (working / "raw.parquet").unlink()
    return Impressions.open(folder)


def beside_values(config: DataConfig) -> dict[str, Any]:
    """What decides what a source offers beside the events: its settings but where files lie and how they are read, less those marked LATER that are
    at their default, so that a setting that comes later leaves keys as they are."""
    return {
        entry.name: value
        for entry in fields(config)
        if entry.name not in ELSEWHERE and not enters_no_key(entry, value := getattr(config, entry.name))
    }


def _store(data: PreparedData, folder: Path, counts: dict[str, int]) -> None:
    """Turn the raw rows of a folder into arrays."""
    import polars as pl

    rows = pl.read_parquet(folder / "raw.parquet").with_row_index("row")
    users = data.user_ids().select(user="user_id", number=pl.col("user").cast(pl.Int32))
    items = data.item_table().select(item="item", number=pl.col("item_id").cast(pl.Int32))
    numbered = rows.join(users, on="user", how="left").join(items, on="item", how="left", suffix="_item")
    unknown_user, unknown_item = (numbered[name].is_null() for name in ("number", "number_item"))
    counts = {
        **counts,
        "impressions_of_unknown_users": int(unknown_user.sum()),
        "impressions_of_unknown_items": int((unknown_item & ~unknown_user).sum()),
    }
    kept = numbered.filter(~unknown_user & ~unknown_item)
    if kept.is_empty():
        raise UserError("no impression is left: the data know none of their users and items together")
    if "request" not in kept.columns:
        kept = kept.with_columns(request=pl.col("row").cast(pl.Int64))
    if "place" not in kept.columns:
        kept = kept.with_columns(place=pl.int_range(pl.len()).over("request"))
    kept = kept.sort("timestamp", "number", "request", "place", "row")
    found = {"user": "number", "item": "number_item"}
    arrays = {
        name: kept[found.get(name, name)].to_numpy().astype(kind)
        for name, kind in ARRAYS.items()
        if name != "history_end"
    }
    arrays["history_end"] = history_ends(data, arrays["user"], arrays["timestamp"])
    context = kept.select(pl.exclude(*NAMED, "row", "number", "number_item"))
    context.write_parquet(folder / "context.parquet")
    digest = hashlib.blake2b(data.fingerprint.encode(), digest_size=16)
    for name, array in sorted(arrays.items()):
        np.save(folder / f"{name}.npy", array)
        digest.update(f"{name} {len(array)} ".encode())
        digest.update(memoryview(np.ascontiguousarray(array, array.dtype.newbyteorder("<"))).cast("B"))
    for name in context.columns:
        digest.update(f"{name} {json.dumps(context[name].to_list(), default=str)}".encode())
    manifest = {"fingerprint": digest.hexdigest(), "counts": {**counts, "impressions": len(kept)}}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def history_ends(data: PreparedData, user: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
    """[N] int64: behind the last event of each row's user that is older than the row's time; the start of the user's events if none is."""
    return events_before_rows(
        np.repeat(np.arange(data.n_users), data.lengths()), np.asarray(data.timestamps), user, timestamp
    )
