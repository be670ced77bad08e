"""What synthetic users were shown and did not choose: requests of a few items each, of which one was clicked, or none.

At each event of a user but the first there was a request: the event's item is among those shown and is clicked; the others come from all items by
popularity and from the cluster of the last item, half and half, never an item that the user had before. A click is likelier near the top, by
1 / (1 + place), so place is a feature that helps and misleads. With chance EMPTY there was another request shortly before, in which nothing was
clicked. So the clicks are the user's events, and the log strictly before a row's time is all that was known when it was shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recbench.data.sources.synthetic_side import raw_ids
from recbench.data.sources.synthetic_world import IMPRESSIONS, world_of

if TYPE_CHECKING:
    import polars as pl

    from recbench.data.sources.synthetic_config import SyntheticConfig
    from recbench.data.sources.synthetic_events import Histories
    from recbench.data.sources.synthetic_world import World

#: Chance of a request without a click before an event, and how many seconds before it: less than the shortest pause.
EMPTY, SECONDS_BEFORE = 0.3, (5, 25)
DEVICES = ("phone", "tablet", "desktop")


def impressions(config: SyntheticConfig, to: Path) -> dict[str, int]:
    """Write the rows, user by user and in time order, to the Parquet file ``to``; the counts of rows.

    Columns: user, item (raw ids), timestamp (Unix seconds), label (1: clicked), request (number, across all users), place (0 at the top), device.
    """
    import pyarrow.parquet as pq

    from recbench.data.sources.synthetic_events import BLOCK_USERS, blocks

    world, rows, requests = world_of(config), 0, 0
    writer: pq.ParquetWriter | None = None
    for first, block in blocks(world, config):
        rng = np.random.default_rng([config.seed, IMPRESSIONS, first // BLOCK_USERS])
        frame = _requests(world, config, block, first, requests, rng)
        requests += frame["request"].n_unique()
        rows += frame.height
        table = frame.to_arrow()
        writer = writer or pq.ParquetWriter(to, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return {"impressions_read": rows, "requests_read": requests}


def _requests(
    world: World,
    config: SyntheticConfig,
    block: Histories,
    first_user: int,
    first_request: int,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """All requests of a block of users. R requests, K places."""
    import polars as pl

    user, position = np.nonzero(block.items >= 0)
    user, position = user[position > 0], position[position > 0]
    empty = rng.random(len(user)) < EMPTY
    # The request without a click first: it is the earlier one.
    times_asked = 1 + empty
    clicked = np.ones(int(times_asked.sum()), dtype=bool)
    clicked[np.cumsum(times_asked)[empty] - 2] = False
    user, position = np.repeat(user, times_asked), np.repeat(position, times_asked)
    target, last = block.items[user, position], block.items[user, position - 1]
    shown = _shown(world, config.impressions_shown, last, rng)
    weights = 1 / (1 + np.arange(config.impressions_shown))
    place = rng.choice(config.impressions_shown, size=len(user), p=weights / weights.sum())
    shown[clicked, place[clicked]] = target[clicked]
    label = np.zeros(shown.shape, dtype=np.int8)
    label[clicked, place[clicked]] = 1
    had = np.where(np.arange(block.items.shape[1]) < position[:, None], block.items[user], -1)
    kept = _fresh(shown, target, had) | (label == 1)
    kept &= kept.sum(axis=1, keepdims=True) >= 2  # a list of one item is no choice
    times = block.times[user, position] - np.where(clicked, 0, rng.integers(*SECONDS_BEFORE, size=len(user)))
    device = _devices(config, first_user, len(block.lengths))
    row, column = np.nonzero(kept)
    _, number = np.unique(row, return_inverse=True)
    return pl.DataFrame(
        {
            "user": raw_ids("u", first_user + user[row], config.n_users),
            "item": raw_ids("i", shown[row, column], config.n_items),
            "timestamp": times[row],
            "label": label[row, column],
            "request": first_request + number.astype(np.int64),
            "place": column.astype(np.int16),
            "device": pl.Series(list(DEVICES)).gather(device[user[row]]),
        }
    )


def _shown(world: World, k: int, last: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[R, K] items by popularity and, half of them, from the cluster of the last item."""
    flat = np.repeat(last, k)
    near = rng.random(len(flat)) < 0.5
    start = np.where(near, world.cluster_start[world.cluster[flat]], 0)
    end = np.where(near, world.cluster_start[world.cluster[flat] + 1], world.n_items)
    return world.stretches.draw(start, end, rng).reshape(-1, k)


def _fresh(shown: np.ndarray, target: np.ndarray, had: np.ndarray) -> np.ndarray:
    """[R, K] True where an item is not the coming one, stands for the first time in its list, and was not had before (had [R, L])."""
    fresh = shown != target[:, None]
    for place in range(shown.shape[1]):
        item = shown[:, place, None]
        fresh[:, place] &= ~((shown[:, :place] == item).any(axis=1) | (had == item).any(axis=1))
    return fresh


def _devices(config: SyntheticConfig, first_user: int, n: int) -> np.ndarray:
    """[n] the device of each user of a block; it tells nothing of what is clicked."""
    return np.random.default_rng([config.seed, IMPRESSIONS, 1, first_user]).integers(len(DEVICES), size=n)
