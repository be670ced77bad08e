"""Prepared data on disk: flat memory-mapped arrays, the item table, the manifest that describes them.

Symbols: N interactions, U users, I items. A folder holds

    items.npy       int32 [N]    item of each event, 1..I (0 is the pad and never used)
    timestamps.npy  int64 [N]    Unix seconds
    offsets.npy     int64 [U+1]  events of user u stand at offsets[u]:offsets[u+1], in time order
    behaviours.npy  int8  [N]    only where the data have them: 1..B, 0 where unknown; names in the manifest
    sessions.npy    int32 [N]    only where the data have them: number of the session within its user
    parts.npy       int8  [N]    only where others split the data: see ``recbench.data.given_parts``; a user's events stand by part, then time
    ratings.npy     float32 [N] and reviews.parquet, only where ``data.keep`` asks for them: see ``recbench.data.kept``
    items.parquet   item_id, raw id and text of every item;  users.parquet  user and raw id
    manifest.json   written last: a folder without it is not a prepared data set
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.core.disk import save_array, write_atomically
from recbench.core.errors import UserError, first_line
from recbench.data.intact import check_intact, checksums
from recbench.data.item_table import complete_item_table, has_text, user_table
from recbench.data.kept import Kept
from recbench.data.manifest_figures import check_arrays, fingerprint_of, statistics_of

if TYPE_CHECKING:
    import polars as pl


#: Raised whenever the files above or the cleaning rules change: folders of another format are prepared anew.
FORMAT_VERSION = 1
#: Arrays with a value for each event beside its item; data may lack any of them but the timestamps.
BESIDE_ITEMS = ("timestamps", "behaviours", "sessions", "parts", "ratings")
#: Items whose table is hashed row by row when data of before there were checksums are opened.
MOST_HASHED_ITEMS = 100_000


class PreparedData:
    """One prepared data set, read-only. Cheap to open and to send to another process: the arrays stay on disk."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.fingerprint: str = manifest["fingerprint"]
        self.n_users: int = manifest["n_users"]
        self.n_real_users: int = manifest[
            "n_users"
        ]  # all, unless an attack laid others behind them (``recbench.data.attack``)
        self.n_items: int = manifest["n_items"]
        self.n_interactions: int = manifest["n_interactions"]
        self.has_timestamps: bool = manifest["has_timestamps"]
        self.has_text: bool = manifest["has_text"]
        self.has_behaviours: bool = manifest["has_behaviours"]
        self.has_repeats: bool = manifest["has_repeats"]
        kept = manifest.get("kept", {})
        self.has_reviews: bool = "reviews" in kept
        self.ratings = self._array("ratings") if "ratings" in kept else None
        #: [N] which stored event each is, of data with reviews whose events were laid out anew in memory (``take_events``).
        self.stored_at: np.ndarray | None = None
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
            check_intact(folder, manifest, lambda: _fingerprint_on_disk(cls(folder, manifest)))
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
        kept: Kept | None = None,
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
        a part begins, so that times may fall there. kept: ratings and reviews
        of the events. details: further entries of the manifest. Raises ValueError if the
        arrays contradict each other.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if n_items is None:
            n_items = item_table.height if item_table is not None else int(items.max(initial=0))
        check_arrays(items, offsets, timestamps, n_items, seams)
        table = complete_item_table(item_table, n_items)
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
            save_array(folder / f"{name}.npy", array)
        table.write_parquet(folder / "items.parquet")
        user_table(user_ids, len(offsets) - 1).write_parquet(folder / "users.parquet")
        kept_files, of_kept = (kept or Kept()).write(folder)
        names = [*(f"{name}.npy" for name in arrays), "items.parquet", "users.parquet", *kept_files]
        manifest = {
            "format": FORMAT_VERSION,
            "checksums": checksums(folder, names),
            "fingerprint": fingerprint_of(arrays, table),
            **statistics_of(arrays, n_items, has_timestamps=timestamps is not None),
            "has_text": has_text(table),
            "has_behaviours": behaviours is not None,
            "has_sessions": sessions is not None,
            **({"has_parts": True} if parts is not None else {}),
            "behaviours": behaviour_names or [],
            **of_kept,
            **(details or {}),
        }
        write_manifest(folder, manifest)
        return cls.open(folder)

    @property
    def judged_fingerprint(self) -> str:
        """Of the data that the figures of a run are of; another one only where training alone was changed (``recbench.data.resampled``)."""
        return self.fingerprint

    def item_table(self) -> pl.DataFrame:
        """[I rows] item_id (1..I, sorted), item (raw id), title, brand, categories (list), price, description."""
        return self._table("items.parquet")

    def user_ids(self) -> pl.DataFrame:
        """[U rows] user (0..U-1, sorted) and user_id, its raw id."""
        return self._table("users.parquet")

    def reviews(self) -> pl.Series:
        """[N] the text of each event's review, null where it has none. Raises UserError where ``data.keep`` did not ask for them."""
        if not self.has_reviews:
            raise UserError("these data hold no reviews; prepare them with data.keep=[reviews]")
        stored = self._table("reviews.parquet")["review"]
        return stored if self.stored_at is None else stored.gather(self.stored_at)

    def kept(self) -> Kept:
        """Ratings and reviews of the events, as far as ``data.keep`` asked for them."""
        return Kept(self.ratings, self.reviews() if self.has_reviews else None)

    def _table(self, name: str) -> pl.DataFrame:
        import polars as pl

        try:
            return pl.read_parquet(self.folder / name)
        except (OSError, pl.exceptions.PolarsError) as error:
            said = first_line(error)[:120]
            raise UserError(
                f"prepared data in {self.folder} are damaged ({name}: {said}); delete the folder and run again"
            ) from error

    def take_events(self, of: PreparedData, position: np.ndarray) -> None:
        """Lay out data in memory: what stands beside the item of each event [N] is that of the event at ``position`` [N] of other data."""
        for name in BESIDE_ITEMS:
            if (array := getattr(of, name)) is not None:
                setattr(self, name, np.asarray(array[position]))
        if of.has_reviews:
            self.stored_at = position if of.stored_at is None else of.stored_at[position]

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


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write what makes a folder a prepared data set, after everything else in it."""
    with write_atomically(folder / "manifest.json") as temporary:
        temporary.write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")


def _fingerprint_on_disk(data: PreparedData) -> str | None:
    """The fingerprint of what lies on the disk; None where the item table is so long that it would take long."""
    if data.n_items > MOST_HASHED_ITEMS:
        return None
    named = {"items": data.items, "timestamps": data.timestamps, "offsets": data.offsets}
    named |= {name: array for name in ("behaviours", "sessions") if (array := getattr(data, name)) is not None}
    return fingerprint_of(named, data.item_table())
