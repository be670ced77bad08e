"""Prepared data on disk: flat memory-mapped arrays, the item table, the manifest that describes them.

Symbols: N interactions, U users, I items. A folder holds

    items.npy       int32 [N]    item of each event, 1..I (0 is the pad and never used)
    timestamps.npy  int64 [N]    Unix seconds
    offsets.npy     int64 [U+1]  events of user u stand at offsets[u]:offsets[u+1], in time order
    behaviours.npy  int8  [N]    only where the data have them: 1..B, 0 where unknown; names in the manifest
    sessions.npy    int32 [N]    only where the data have them: number of the session within its user
    parts.npy       int8  [N]    only where others split the data: see ``recbench.data.given_parts``; a user's events stand by part, then time
    items.parquet   item_id, raw id and text of every item;  users.parquet  user and raw id
    manifest.json   written last: a folder without it is not a prepared data set
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.core.disk import write_atomically
from recbench.core.errors import UserError
from recbench.data.cases import blocks_of_users
from recbench.data.intact import check_intact, checksums
from recbench.data.schema import ITEM_COLUMNS

if TYPE_CHECKING:
    import polars as pl

#: Raised whenever the files above or the cleaning rules change: folders of another format are prepared anew.
FORMAT_VERSION = 1


#: Items whose table is hashed row by row when data of before there were checksums are opened.
MOST_HASHED_ITEMS = 100_000
#: Events that are checked and counted at once.
EVENTS_AT_ONCE = 1 << 20


class PreparedData:
    """One prepared data set, read-only. Cheap to open and to send to another process: the arrays stay on disk."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.fingerprint: str = manifest["fingerprint"]
        self.n_users: int = manifest["n_users"]
        self.n_items: int = manifest["n_items"]
        self.n_interactions: int = manifest["n_interactions"]
        self.has_timestamps: bool = manifest["has_timestamps"]
        self.has_text: bool = manifest["has_text"]
        self.has_behaviours: bool = manifest["has_behaviours"]
        self.has_repeats: bool = manifest["has_repeats"]
        self.items = self._array("items")
        self.timestamps = self._array("timestamps")
        self.offsets = self._array("offsets")
        self.behaviours = self._array("behaviours") if self.has_behaviours else None
        self.sessions = self._array("sessions") if manifest["has_sessions"] else None
        self.parts = self._array("parts") if manifest.get("has_parts") else None

    @classmethod
    def open(cls, folder: Path | str) -> PreparedData:
        """Raises UserError if ``folder`` does not hold a complete prepared data set of this format."""
        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest is None:
            raise UserError(f"{folder} holds no complete prepared data set; delete it and run again to prepare it anew")
        try:
            check_intact(folder, manifest, lambda: _fingerprint_of(cls(folder, manifest)))
            return cls(folder, manifest)
        except UserError:
            raise
        except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
            raise UserError(
                f"prepared data in {folder} are damaged ({error}); delete the folder and run again"
            ) from error

    @classmethod
    def from_arrays(
        cls,
        folder: Path | str,
        items: np.ndarray,
        offsets: np.ndarray,
        timestamps: np.ndarray | None = None,
        behaviours: np.ndarray | None = None,
        item_table: pl.DataFrame | None = None,
        *,
        sessions: np.ndarray | None = None,
        parts: np.ndarray | None = None,
        user_ids: list[str] | pl.Series | None = None,
        behaviour_names: list[str] | None = None,
        n_items: int | None = None,
        seams: np.ndarray | None = None,
        details: dict[str, Any] | None = None,
    ) -> PreparedData:
        """Write arrays as a prepared data set and open it.

        items [N] in 1..I, offsets [U+1], timestamps [N] ascending within each user (None: the data have no clock),
        behaviours [N]. item_table: one row an item in the order of ids 1..I, columns ``item`` (raw id) and any of
        ITEM_COLUMNS; without it the raw ids are the numbers. seams: positions inside a user's events where
        a part begins, so that times may fall there. details: further entries of the manifest. Raises ValueError if the
        arrays contradict each other.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if n_items is None:
            n_items = item_table.height if item_table is not None else int(items.max(initial=0))
        _check(items, offsets, timestamps, n_items, seams)
        table = _complete_item_table(item_table, n_items)
        # Not copied where the type is right: those of a long log are memory-mapped.
        arrays: dict[str, np.ndarray] = {
            "items": np.asarray(items, np.int32),
            "offsets": np.asarray(offsets, np.int64),
            "timestamps": np.zeros(len(items), np.int64) if timestamps is None else np.asarray(timestamps, np.int64),
        }
        if behaviours is not None:
            arrays["behaviours"] = np.asarray(behaviours, np.int8)
        if sessions is not None:
            arrays["sessions"] = np.asarray(sessions, np.int32)
        if parts is not None:
            arrays["parts"] = np.asarray(parts, np.int8)
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        table.write_parquet(folder / "items.parquet")
        _user_table(user_ids, len(offsets) - 1).write_parquet(folder / "users.parquet")
        names = [*(f"{name}.npy" for name in arrays), "items.parquet", "users.parquet"]
        manifest = {
            "format": FORMAT_VERSION,
            "checksums": checksums(folder, names),
            "fingerprint": _fingerprint(arrays, table),
            **_statistics(arrays, n_items, has_timestamps=timestamps is not None),
            "has_text": _has_text(table),
            "has_behaviours": behaviours is not None,
            "has_sessions": sessions is not None,
            **({"has_parts": True} if parts is not None else {}),
            "behaviours": behaviour_names or [],
            **(details or {}),
        }
        _write_manifest(folder, manifest)
        return cls.open(folder)

    def item_table(self) -> pl.DataFrame:
        """[I rows] item_id (1..I, sorted), item (raw id), title, brand, categories (list), price, description."""
        return self._table("items.parquet")

    def user_ids(self) -> pl.DataFrame:
        """[U rows] user (0..U-1, sorted) and user_id, its raw id."""
        return self._table("users.parquet")

    def _table(self, name: str) -> pl.DataFrame:
        import polars as pl

        try:
            return pl.read_parquet(self.folder / name)
        except (OSError, pl.exceptions.PolarsError) as error:
            said = str(error).splitlines()[0][:120]
            raise UserError(
                f"prepared data in {self.folder} are damaged ({name}: {said}); delete the folder and run again"
            ) from error

    def lengths(self) -> np.ndarray:
        """Number of events of each user, int64 [U]."""
        return np.diff(self.offsets)

    def _array(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickled memory map would carry all its bytes; the folder is enough.
        return (PreparedData.open, (self.folder,))

    def __repr__(self) -> str:
        counts = f"{self.n_users:,} users, {self.n_items:,} items, {self.n_interactions:,} interactions"
        return f"PreparedData({counts}, {self.folder})"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a complete folder of this format, None for anything else."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("format") == FORMAT_VERSION else None


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    with write_atomically(folder / "manifest.json") as temporary:
        temporary.write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")


def _check(
    items: np.ndarray, offsets: np.ndarray, timestamps: np.ndarray | None, n_items: int, seams: np.ndarray | None
) -> None:
    n = len(items)
    if n == 0:
        raise ValueError("no interactions")
    if offsets[0] != 0 or offsets[-1] != n or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets must rise from 0 to the number of interactions, {n}")
    if items.min() < 1 or items.max() > n_items:
        raise ValueError(f"item ids must lie in 1..{n_items}, found {items.min()}..{items.max()}")
    if timestamps is not None:
        if len(timestamps) != n:
            raise ValueError(f"{len(timestamps)} timestamps for {n} interactions")
        borders = offsets if seams is None else np.union1d(offsets, seams)
        for first, last in blocks_of_users(np.diff(offsets), EVENTS_AT_ONCE):
            begin, end = int(offsets[first]), int(offsets[last])
            falls = np.diff(timestamps[begin:end]) < 0
            starts = borders[(borders > begin) & (borders < end)]
            falls[starts[(starts > begin) & (starts < end)] - 1 - begin] = False
            if falls.any():
                raise ValueError("timestamps must not fall within a user")


def _complete_item_table(table: pl.DataFrame | None, n_items: int) -> pl.DataFrame:
    """The table with item_id and every column of ITEM_COLUMNS, nulls where nothing is known."""
    import polars as pl

    if table is None:
        table = pl.DataFrame({"item": [str(i) for i in range(1, n_items + 1)]})
    if table.height != n_items:
        raise ValueError(f"the item table has {table.height} rows for {n_items} items")
    kinds: dict[str, Any] = dict.fromkeys(ITEM_COLUMNS, pl.String)
    kinds |= {"categories": pl.List(pl.String), "price": pl.Float64}
    columns = [
        (pl.col(name) if name in table.columns else pl.lit(None)).cast(kinds[name]).alias(name) for name in ITEM_COLUMNS
    ]
    ids = pl.Series("item_id", np.arange(1, n_items + 1, dtype=np.int32))
    return table.select(ids, pl.col("item").cast(pl.String), *columns)


def _user_table(user_ids: list[str] | pl.Series | None, n_users: int) -> pl.DataFrame:
    import polars as pl

    if user_ids is None:
        user_ids = [str(u) for u in range(n_users)]
    if len(user_ids) != n_users:
        raise ValueError(f"{len(user_ids)} user ids for {n_users} users")
    return pl.DataFrame({"user": np.arange(n_users, dtype=np.int64), "user_id": pl.Series(user_ids, dtype=pl.String)})


def _has_text(table: pl.DataFrame) -> bool:
    import polars as pl

    known = pl.col("title").is_not_null() | pl.col("description").is_not_null() | (pl.col("categories").list.len() > 0)
    return bool(table.select(known.fill_null(False).any()).item())


def _statistics(arrays: dict[str, np.ndarray], n_items: int, has_timestamps: bool) -> dict[str, Any]:
    """Counts, time range, the share of ties in time and of repeated items: what decides which protocol makes sense."""
    import polars as pl

    items, offsets, timestamps = arrays["items"], arrays["offsets"], arrays["timestamps"]
    n, n_users = len(items), len(offsets) - 1
    distinct = follow = tied = 0
    for first, last in blocks_of_users(np.diff(offsets), EVENTS_AT_ONCE):
        users = np.repeat(np.arange(first, last, dtype=np.int64), np.diff(offsets[first : last + 1]))
        events = slice(int(offsets[first]), int(offsets[last]))
        distinct += pl.Series(users * (n_items + 1) + items[events]).n_unique()
        same_user, times = users[1:] == users[:-1], timestamps[events]
        follow += int(same_user.sum())
        tied += int((same_user & (times[1:] == times[:-1])).sum())
    statistics: dict[str, Any] = {
        "n_users": n_users,
        "n_items": n_items,
        "n_interactions": n,
        "has_timestamps": has_timestamps,
        "has_repeats": distinct < n,
        "share_repeats": (n - distinct) / n,
    }
    if has_timestamps:
        ends = offsets[1:][np.diff(offsets) >= 2]
        first, last = int(timestamps.min()), int(timestamps.max())
        statistics |= {
            "first_timestamp": first,
            "last_timestamp": last,
            "first_date": _date(first),
            "last_date": _date(last),
            "share_equal_timestamps": float(tied / max(1, follow)),
            "share_last_two_equal": float((timestamps[ends - 1] == timestamps[ends - 2]).mean()) if len(ends) else 0.0,
        }
    return statistics


def _fingerprint_of(data: PreparedData) -> str | None:
    """The fingerprint of what lies on the disk; None where the item table is so long that it would take long."""
    if data.n_items > MOST_HASHED_ITEMS:
        return None
    named = {"items": data.items, "timestamps": data.timestamps, "offsets": data.offsets}
    named |= {name: array for name in ("behaviours", "sessions") if (array := getattr(data, name)) is not None}
    return _fingerprint(named, data.item_table())


def _date(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return "outside the calendar"


def _fingerprint(arrays: dict[str, np.ndarray], table: pl.DataFrame) -> str:
    """BLAKE2b over the arrays and the item table: equal exactly where the prepared data are equal, on any machine."""
    import orjson

    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        little_endian = np.ascontiguousarray(arrays[name], dtype=arrays[name].dtype.newbyteorder("<"))
        digest.update(f"{name} {len(little_endian)} ".encode())
        digest.update(memoryview(little_endian).cast("B"))
    for row in table.iter_rows():
        digest.update(orjson.dumps(row))
    return digest.hexdigest()
