"""Ratings and reviews of the events, which lie beside prepared data where ``data.keep`` asks for them.

    ratings.npy      float32 [N]   NaN where an event has none
    reviews.parquet  review [N]    text, null where an event has none

They are no part of the fingerprint: data are the same data whether they are kept or not, and so are the runs that do not read them. A run that
reads them has ``kept_key`` in its key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import polars as pl


@dataclass
class Kept:
    """ratings float32 [N], reviews strings [N], of N events; None: not kept."""

    ratings: np.ndarray | None = None
    reviews: pl.Series | None = None

    def at(self, position: np.ndarray) -> Kept:
        """Of the events at these positions (or of a mask), in their order."""
        place = np.flatnonzero(position) if position.dtype == bool else position
        return Kept(
            None if self.ratings is None else np.asarray(self.ratings)[place],
            None if self.reviews is None else self.reviews.gather(place),
        )

    def write(self, folder: Path) -> tuple[list[str], dict[str, Any]]:
        """Write into a folder; (names of the files, what the manifest says of them: hashes of what they hold)."""
        names, hashes = [], {}
        if self.ratings is not None:
            values = np.asarray(self.ratings, dtype="<f4")
            np.save(folder / "ratings.npy", values)
            names.append("ratings.npy")
            hashes["ratings"] = hashlib.blake2b(values.tobytes(), digest_size=8).hexdigest()
        if self.reviews is not None:
            reviews = self.reviews.rename("review")
            reviews.to_frame().write_parquet(folder / "reviews.parquet")
            names.append("reviews.parquet")
            digest = hashlib.blake2b(digest_size=8)
            for text in reviews.to_list():
                digest.update(b"\0" if text is None else text.encode() + b"\1")
            hashes["reviews"] = digest.hexdigest()
        return names, {"kept": hashes} if hashes else {}


def kept_key(manifest: Mapping[str, Any], kinds: Iterable[str]) -> dict[str, str]:
    """Kind -> hash of what is kept, by the manifest of prepared data: part of the key of a run that reads it."""
    held = manifest.get("kept", {})
    return {kind: held[kind] for kind in sorted(kinds) if kind in held}
