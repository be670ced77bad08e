"""A file of results, read and checked against the users of a test. Shapes: U users of the data, K length of a list, T targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recbench.cli.recommend.id_file import ENDINGS, read_table
from recbench.core.errors import UserError
from recbench.data.item_numbers import item_numbers

if TYPE_CHECKING:
    import polars as pl

    from recbench.data.cases import Cases
    from recbench.data.prepared import PreparedData


@dataclass(frozen=True)
class Results:
    """Either lists [U, K] int64 (0: no item) with scores [U, K] float32 that fall (-inf: no item), or ranks [T] of the targets of the test."""

    lists: np.ndarray | None = None
    scores: np.ndarray | None = None
    ranks: np.ndarray = field(default_factory=lambda: np.empty(0))


def read_results(path: Path, data: PreparedData, cases: Cases) -> Results:
    """Raises UserError, with number and example, for whatever does not fit the test: see ``results.import_results``."""
    import polars as pl

    if not path.is_file() or path.suffix not in ENDINGS:
        raise UserError(f"{path} is no file of results: give one that ends in {', '.join(ENDINGS)}")
    table = read_table(path).rename({"user_id": "user", "item_id": "item"}, strict=False)
    kind = "target" if "target" in table.columns else "item"
    order = next((name for name in ("rank", "score") if name in table.columns), None)
    if (
        "user" not in table.columns
        or kind not in table.columns
        or order is None
        or (kind == "target" and order != "rank")
    ):
        raise UserError(
            f"{path} has the columns {', '.join(table.columns)[:200]}; lists have user, item and rank or score, ranks have user, target and rank"
        )
    table = table.select(pl.col("user", kind).cast(pl.String), pl.col(order).cast(pl.Float64, strict=False))
    if table.select(pl.any_horizontal(pl.all().is_null() | pl.col(order).is_nan())).to_series().any():
        raise UserError(f"{path} has rows without a user, an item or a number in {order}")
    users = data.user_ids()
    user = table["user"].replace_strict(users["user_id"], users["user"].cast(pl.Int64), default=-1)
    table = _numbered(table, "user", user.to_numpy(), 0, path)
    table = _numbered(table, kind, item_numbers(data, table[kind]), 1, path)
    _same_users(table, data, cases, path)
    return _ranks(table, data, cases, path) if kind == "target" else _lists(table, order, data, path)


def _numbered(table: pl.DataFrame, column: str, number: np.ndarray, first: int, path: Path) -> pl.DataFrame:
    """Raw ids as our numbers, the first of which is ``first``; a smaller one is that of an unknown id. Raises UserError for those."""
    import polars as pl

    unknown = table.filter(number < first)[column].unique(maintain_order=True)
    if len(unknown):
        kind = "user" if column == "user" else "item"
        raise UserError(
            f"{path}: {len(unknown):,} {kind}s are unknown to these data, such as '{unknown[0][:60]}'; were these results made on this split?"
        )
    return table.with_columns(pl.Series(column, number))


def _same_users(table: pl.DataFrame, data: PreparedData, cases: Cases, path: Path) -> None:
    """Raise UserError unless every user of the test has a row, and nobody else."""
    given, asked = np.unique(table["user"].to_numpy()), np.unique(cases.user[cases.n_targets > 0])
    names = data.user_ids()["user_id"]
    for users, said in (
        (np.setdiff1d(asked, given), "users of the test have no row"),
        (np.setdiff1d(given, asked), "users are not in the test"),
    ):
        if len(users):
            raise UserError(
                f"{path}: {len(users):,} {said}, such as '{names[int(users[0])]}'; a table compares the same users"
            )


def _lists(table: pl.DataFrame, order: str, data: PreparedData, path: Path) -> Results:
    import polars as pl

    twice = table.filter(pl.struct("user", "item").is_duplicated())
    if twice.height:
        name = data.user_ids()["user_id"][int(twice["user"][0])]
        raise UserError(f"{path}: the list of '{name}' holds an item twice ({twice.height:,} such rows)")
    value = -pl.col("rank") if order == "rank" else pl.col("score")
    table = table.with_columns(value.alias("value")).sort(
        "user", "value", descending=[False, True], maintain_order=True
    )
    user = table["user"].to_numpy()
    place = np.arange(len(user)) - np.searchsorted(user, user, side="left")
    lists = np.zeros((data.n_users, int(place.max()) + 1), np.int64)
    scores = np.full(lists.shape, -np.inf, np.float32)
    lists[user, place] = table["item"].to_numpy()
    # Equal values stay equal as float32, others stay apart: what is stored is their place among the values.
    scores[user, place] = -(table["value"].rank("dense", descending=True).to_numpy().astype(np.float32))
    if order == "rank":
        scores[user, place] = -place.astype(np.float32)
    return Results(lists=lists, scores=scores)


def _ranks(table: pl.DataFrame, data: PreparedData, cases: Cases, path: Path) -> Results:
    import polars as pl

    user = np.repeat(cases.user, cases.n_targets)
    asked = pl.DataFrame({"user": user, "target": cases.targets.astype(np.int64)})
    found = asked.join(
        table.cast({"user": pl.Int64, "target": pl.Int64}), on=["user", "target"], how="left", maintain_order="left"
    )
    if found.height != asked.height or table.height != asked.height or found["rank"].null_count():
        raise UserError(
            f"{path}: {table.height:,} rows for {asked.height:,} targets, of which {found['rank'].null_count():,} are missing; give one row a target"
        )
    ranks = found["rank"].to_numpy()
    if (ranks < 1).any() or (ranks[np.isfinite(ranks)] > data.n_items).any():
        raise UserError(f"{path}: a rank lies outside 1..{data.n_items}")
    return Results(ranks=ranks)
