"""Many answers at once: the lists of all users, and the scores of given pairs. Shapes: R rows of a block, k items of a list."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.cli.recommend.answer import best_of, scores_of
from recbench.cli.recommend.histories import History
from recbench.core.disk import disk_errors, write_atomically
from recbench.core.errors import UserError
from recbench.data.item_numbers import item_numbers

if TYPE_CHECKING:
    import polars as pl

    from recbench.cli.recommend.model_of_run import Opened

#: Endings of the files that are written.
WRITTEN = (".parquet", ".csv")


def check_target(path: Path) -> None:
    """Raise UserError for a file that cannot be written, before anything is computed."""
    if path.suffix not in WRITTEN:
        raise UserError(f"--to {path}: the name must end in {' or '.join(WRITTEN)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(
            f"--to {path}: {'this is a folder' if path.is_dir() else 'there is no such folder'}; name a file"
        )


def all_histories(opened: Opened, as_in_test: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(user [R], start [R], end [R]): the history of every user that has one, as flat positions; with ``as_in_test`` of every tested user
    what stood before the last test target."""
    if not as_in_test:
        offsets = opened.stage.data.offsets
        user = np.flatnonzero(np.diff(offsets) > 0)
        return user, np.asarray(offsets[user]), np.asarray(offsets[user + 1])
    test = opened.stage.split.test
    user, last = np.unique(test.user[::-1], return_index=True)
    last = len(test) - 1 - last
    used = test.end[last] > test.start[last]
    return user[used], test.start[last][used], test.end[last][used]


def recommend_all(
    opened: Opened, to: Path, k: int, mask_seen: bool | None = None, as_in_test: bool = False
) -> dict[str, int]:
    """The k best items of every user into ``to``: columns user, rank, item (raw ids) and score, users in the order of the data.

    Written whole or not at all, in memory of one block. Returns {"users", "rows", "short": users with fewer than k items}.
    """
    check_target(to)
    return write_lists(opened, to, k, mask_seen, as_in_test)


def write_lists(
    opened: Opened,
    to: Path,
    k: int,
    mask_seen: bool | None = None,
    as_in_test: bool = False,
    rows: slice = slice(None),
) -> dict[str, int]:
    """As ``recommend_all``, of some of its users: those at the places ``rows`` of ``all_histories``."""
    import polars as pl

    user, start, end = (column[rows] for column in all_histories(opened, as_in_test))
    if not len(user):
        raise UserError("no user has a history to recommend from")
    users = opened.stage.data.user_ids()["user_id"].to_numpy()
    items = np.concatenate([[""], opened.stage.data.item_table()["item"].to_numpy()])
    counts = {"users": len(user), "rows": 0, "short": 0}

    def tables() -> Iterator[pl.DataFrame]:
        for first, last in blocks(opened, len(user)):
            histories = _histories(opened, user[first:last], start[first:last], end[first:last])
            best, scores = (table.cpu().numpy() for table in best_of(opened, histories, k, mask_seen))
            real = np.cumsum(best > 0, axis=1) * (best > 0)
            row, column = np.nonzero((real > 0) & (real <= k))
            counts["rows"] += len(row)
            counts["short"] += int((np.bincount(row, minlength=last - first) < k).sum())
            yield pl.DataFrame(
                {
                    "user": users[user[first:last][row]],
                    "rank": real[row, column].astype(np.int32),
                    "item": items[best[row, column]],
                    "score": scores[row, column].astype(np.float32),
                },
                schema=list_columns(),
            )

    write_tables(to, tables(), list_columns())
    return counts


def list_columns() -> dict[str, Any]:
    """Columns of the lists of all users."""
    import polars as pl

    return {"user": pl.String, "rank": pl.Int32, "item": pl.String, "score": pl.Float32}


def score_pairs(
    opened: Opened, pairs: pl.DataFrame, as_in_test: bool = False
) -> tuple[pl.DataFrame, list[tuple[str, int, str]]]:
    """(the known pairs with their score and whether the item stands in the history (``seen``), what is unknown).

    pairs: ``user``, ``item`` as raw ids; their order is kept. Each user is asked once. unknown: (kind, how many pairs, an example). Raises
    UserError for a model that gives lists only.
    """
    import polars as pl

    if opened.model.gives_lists:
        raise UserError(
            f"'{opened.name}' ends its search at a list and gives no scores of given items; ask for lists with --all or --user"
        )
    data = opened.stage.data
    known, start, end = all_histories(opened, as_in_test)
    place = np.full(data.n_users, -1)
    place[known] = np.arange(len(known))
    named = pairs.join(
        data.user_ids().rename({"user": "number", "user_id": "user"}), on="user", how="left", maintain_order="left"
    )
    number, item = named["number"].fill_null(-1).to_numpy(), item_numbers(data, pairs["item"])
    no_user, no_item = number < 0, item == 0
    asked = np.where(no_user, -1, place[np.maximum(number, 0)])
    untested = (asked < 0) & ~no_user
    unknown = [
        (kind, int(mask.sum()), str(pairs[column][int(mask.argmax())]) if mask.any() else "")
        for kind, column, mask in (
            ("user", "user", no_user),
            ("test target of their user", "user", untested),
            ("item", "item", no_item),
        )
    ]
    kept = np.flatnonzero(~(no_user | untested | no_item))
    scores, seen = np.zeros(len(kept), np.float32), np.zeros(len(kept), bool)
    rows, row = np.unique(asked[kept], return_inverse=True)
    order = np.argsort(row, kind="stable")
    ends = np.searchsorted(row[order], np.arange(len(rows) + 1))
    for first, last in blocks(opened, len(rows)) if len(rows) else ():
        chosen, here = rows[first:last], order[ends[first] : ends[last]]
        histories = _histories(opened, known[chosen], start[chosen], end[chosen])
        table = scores_of(opened, histories).cpu().numpy()
        wanted, local = item[kept[here]], row[here] - first
        scores[here] = table[local, wanted]
        stood = np.concatenate([np.unique(h.items) + number * (data.n_items + 1) for number, h in enumerate(histories)])
        seen[here] = np.isin(local * (data.n_items + 1) + wanted, stood)
    return pairs[kept].with_columns(score=pl.Series(scores), seen=pl.Series(seen)), unknown


def blocks(opened: Opened, n: int) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of blocks of ``n`` histories, as large as evaluation's, with a bar on a terminal."""
    from rich.progress import track

    from recbench.core.console import console

    rows = rows_of_a_block(opened)
    starts: Iterable[int] = range(0, n, rows)
    for first in track(
        starts, opened.key, console=console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ):
        yield first, min(first + rows, n)


def rows_of_a_block(opened: Opened) -> int:
    """Histories that are answered at once, as many as evaluation ranks at once."""
    from recbench.evaluation.blocks import block_rows

    return block_rows(opened.stage.data.n_items, opened.config.training.max_length)


def _histories(opened: Opened, user: np.ndarray, start: np.ndarray, end: np.ndarray) -> Sequence[History]:
    data = opened.stage.data

    def part(array: np.ndarray, a: int, b: int) -> np.ndarray:
        return np.asarray(array[a:b], dtype=np.int64)

    return [
        History("", int(u), part(data.items, a, b), part(data.timestamps, a, b), None if data.behaviours is None else part(data.behaviours, a, b))
        for u, a, b in zip(user, start, end, strict=True)
    ]  # fmt: skip


def write_tables(to: Path, tables: Iterable[pl.DataFrame], columns: dict[str, Any]) -> None:
    """Tables one after the other into a file, Parquet or CSV by its name, which is there whole or not at all. Raises UserError for a full disk."""
    import polars as pl
    import pyarrow.parquet as pq

    with disk_errors(to.absolute().parent, "--to"), write_atomically(to.absolute()) as temporary:
        if to.suffix == ".csv":
            with temporary.open("wb") as file:
                pl.DataFrame(schema=columns).write_csv(file)
                for table in tables:
                    table.write_csv(file, include_header=False)
            return
        with pq.ParquetWriter(temporary, pl.DataFrame(schema=columns).to_arrow().schema) as writer:
            for table in tables:
                writer.write_table(table.to_arrow().cast(writer.schema))
