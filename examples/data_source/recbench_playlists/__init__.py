"""``data=playlists data.path=FILE``: a file of JSON lines, one playlist a line, its tracks in their order.

{"playlist": "morning", "tracks": ["a", "c", "b"]}
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbench.models import PATH_ONLY, DataConfig, RawData, UserError


@dataclass
class PlaylistsConfig(DataConfig):
    """PATH_ONLY: where the file lies decides nothing about the data, so it is in no key; what the file holds is."""

    name: str = "playlists"
    path: str = field(default="playlists.jsonl", metadata=PATH_ONLY)


def locate(config: PlaylistsConfig, cache_dir: Path) -> dict[str, dict[str, Any]]:
    """The raw file with its hash, by which recbench knows whether it was prepared before."""
    path = Path(config.path).expanduser()
    if not path.is_file():
        raise UserError(f"there is no file {path}; name it with data.path=FILE")
    content = path.read_bytes()
    return {path.name: {"path": str(path), "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}}


def read(config: PlaylistsConfig, spool: Path, cache_dir: Path) -> RawData:
    """Write every event into one Parquet file, in file order; recbench cleans, numbers and splits it."""
    import polars as pl

    users, items = [], []
    with Path(config.path).expanduser().open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                playlist = json.loads(line)
                name, tracks = str(playlist["playlist"]), [str(track) for track in playlist["tracks"]]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{config.path}, line {number}, is no playlist with its tracks") from error
            users += [name] * len(tracks)
            items += tracks
    events = pl.DataFrame({"user": users, "item": items}, schema={"user": pl.String, "item": pl.String})
    events.with_columns(timestamp=pl.lit(0, pl.Int64)).write_parquet(spool / "interactions.parquet")
    return RawData(
        interactions=spool / "interactions.parquet",
        files=locate(config, cache_dir),
        counts={"rows_read": len(users)},
        has_timestamps=False,
    )
