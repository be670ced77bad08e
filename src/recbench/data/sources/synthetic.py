"""Synthetic interactions with known structure: any size, the same bytes for the same seed, and a known best score.

What users do follows the latent structures described in ``synthetic_world``; each has a strength here. The rest of the shares
``transition + second_order + cluster`` up to 1 is noise. Beside the data goes the best NDCG@10 and HR@10 that any model could reach
on the leave-one-out targets (``synthetic_oracle``), so that a result can be read as a part of what was possible.

Ratings stand beside the events, and reviews where ``data.keep`` asks for them.
Vectors, triples, attributes of users (``synthetic_side``) and impressions with labels (``synthetic_impressions``)
are made when they are asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.data.schema import RawData
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.sources.synthetic_impressions import impressions
from recbench.data.sources.synthetic_ratings import ratings
from recbench.data.sources.synthetic_side import item_features, knowledge, raw_ids, user_table
from recbench.data.sources.synthetic_world import TEXT, world_of

if TYPE_CHECKING:
    import polars as pl

    from recbench.data.sources.synthetic_events import Histories

__all__ = ["SyntheticConfig", "impressions", "item_features", "knowledge", "read", "user_table"]


def read(config: SyntheticConfig, spool: Path, cache_dir: Path) -> RawData:
    """Generate the data into ``spool``. Raises UserError as ``config.validate`` does. ``cache_dir`` is not used."""
    import pyarrow.parquet as pq

    from recbench.data.sources.synthetic_events import blocks
    from recbench.data.sources.synthetic_oracle import oracle_users
    from recbench.data.sources.synthetic_text import item_table, reviews

    config.validate()
    world = world_of(config)
    names = raw_ids("i", np.arange(config.n_items), config.n_items)
    judged = oracle_users(config.n_users, config.n_items, config.oracle_users)
    items = item_table(names, world.cluster, config.text_signal, np.random.default_rng([config.seed, TEXT]))
    kept: list[Histories] = []
    counts = np.zeros(config.n_items, dtype=np.int64)
    path = spool / "interactions.parquet"
    writer: pq.ParquetWriter | None = None
    for first_user, block in blocks(world, config):
        counts += np.bincount(block.items[block.items >= 0], minlength=config.n_items)
        kept.append(
            _rows(block, judged[(judged >= first_user) & (judged < first_user + len(block.lengths))] - first_user)
        )
        frame = _frame(block, first_user, names, config, world.cluster)
        if "reviews" in config.keep:
            frame = frame.with_columns(review=reviews(frame, items))
        table = frame.to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return RawData(
        interactions=path,
        items=items,
        counts={"rows_read": int(counts.sum())},
        extra={"oracle": _oracle(world, config, kept, counts > 0)},
    )


def _oracle(world: Any, config: SyntheticConfig, kept: list[Histories], occurs: np.ndarray) -> dict[str, Any]:
    """What stands in the manifest under "oracle". Empty of numbers where cleaning may change the sequences."""
    from recbench.data.sources.synthetic_oracle import oracle

    if config.k_core > 1 or config.min_rating is not None or (config.allow_repeats and config.repeats == "first"):
        return {"note": "none: the filters data.k_core, data.min_rating or data.repeats change the generated sequences"}
    histories = _stack(kept)
    judged = len(histories.lengths)
    note = (
        f"best reachable under leave_one_out with full ranking, on {judged:,} of {config.n_users:,} users; seen items "
    )
    note += "may come again" if config.allow_repeats else "never come again"
    return {
        **oracle(world, histories, occurs, config.allow_repeats, config.long_gap_share),
        "n_users": judged,
        "note": note,
    }


def _rows(block: Histories, rows: np.ndarray) -> Histories:
    from recbench.data.sources.synthetic_events import Histories

    return Histories(
        block.items[rows], block.after_long[rows], block.times[rows], block.behaviours[rows], block.lengths[rows]
    )


def _stack(blocks: list[Histories]) -> Histories:
    """Blocks of differing width as one."""
    from recbench.data.sources.synthetic_events import Histories

    width = max(block.items.shape[1] for block in blocks)

    def joined(name: str) -> np.ndarray:
        parts = [getattr(block, name) for block in blocks]
        return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1])), constant_values=-1) for p in parts])

    lengths = np.concatenate([block.lengths for block in blocks])
    return Histories(joined("items"), joined("after_long"), joined("times"), joined("behaviours"), lengths)


def _frame(
    block: Histories, first_user: int, names: pl.Series, config: SyntheticConfig, cluster: np.ndarray
) -> pl.DataFrame:
    """The events of a block as rows of the spool, user by user in time order."""
    import polars as pl

    from recbench.data.sources.synthetic_events import BEHAVIOURS

    real = block.items >= 0
    users = raw_ids("u", first_user + np.arange(len(block.lengths)), config.n_users)
    row = np.nonzero(real)[0]
    session = np.cumsum(block.after_long, axis=1)[real]
    user = users.gather(row)
    return pl.DataFrame(
        {
            "user": user,
            "item": names.gather(block.items[real]),
            "timestamp": block.times[real],
            "rating": ratings(config, cluster, first_user + row, block.items[real]),
            "behaviour": pl.Series(list(BEHAVIOURS)).gather(block.behaviours[real]),
            "session": user + "-" + pl.Series(session).cast(pl.String),
        }
    )
