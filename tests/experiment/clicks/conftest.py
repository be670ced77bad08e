"""Impressions whose clicks are known: a user clicks what the item and the user have in common, and items of what was clicked last."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
import pytest

from recbench.config.compose import compose

SIZES = {
    "deepfm": ["model.layers=[16]"],
    "dcn_v2": ["model.layers=[16]"],
    "din": ["model.hidden_size=8", "model.layers=[16]"],
    "tin": ["model.hidden_size=8", "model.layers=[16]"],
    "dare": ["model.hidden_size=8", "model.layers=[16]", "model.top_k=2"],
    "qin": ["model.hidden_size=8"],
    "apem": ["model.layers=[16]", "model.embedding_size=8"],
    "ihas_search": ["model.layers=[16]", "model.embedding_size=8", "model.gate_size=8"],
    "ihas": ["model.layers=[16]", "model.embedding_size=8", "model.n_groups=2"],
    "sasrec": ["model.hidden_size=16", "model.feedforward_size=16"],
}


@cache
def planted(seed: int = 0) -> pl.DataFrame:
    """1,800 rows in order of time; ``parts`` of them are 70, 15 and 15 per cent."""
    rng = np.random.default_rng(seed)
    n = 1800
    user, item = rng.integers(0, 30, n), rng.integers(0, 40, n)
    chance = np.where((user + item) % 3 == 0, 0.85, 0.1)
    return pl.DataFrame(
        {
            "user": [f"u{x}" for x in user],
            "item": [f"i{x}" for x in item],
            "label": (rng.random(n) < chance).astype(int),
            "time": np.sort(rng.integers(0, 900, n)),  # ties
            "group": [f"g{x % 3}" for x in item],
            "kind": [f"k{x % 3}" for x in user],
            "price": rng.random(n).round(3),
            "tags": [f"t{x % 3}^t{x % 5}" for x in item],
        }
    )


def write_parts(folder, rows, more=None):
    """train, validation and test files of the rows; more: further rows of the test."""
    a, b = int(0.7 * len(rows)), int(0.85 * len(rows))
    parts = {"train": rows[:a], "validation": rows[a:b], "test": rows[b:]}
    if more is not None:
        parts["test"] = pl.concat([parts["test"], more])
    for name, part in parts.items():
        part.write_csv(folder / f"{name}.csv")
    return [f"data.parts.{name}={folder}/{name}.csv" for name in parts] + ["protocol.order=given"]


@pytest.fixture
def words(tmp_path):
    """words("deepfm", "more=1") -> the words of a small run on the planted rows, cut in time."""
    planted().write_csv(tmp_path / "rows.csv")

    def build(model, *more, parts=None):
        where = [f"data.path={tmp_path}/rows.csv"] if parts is None else parts
        return [
            f"model={model}", *SIZES.get(model, []), "data=impressions", *where, "data.columns.timestamp=time", "data.numbers=[price]",
            "data.several=[tags]", "protocol=clicks", "training.batch_size=128", "training.max_epochs=6", "training.lr=1e-2",
            "hardware=cpu", "tracking=off", f"runs_dir={tmp_path}/runs", f"cache_dir={tmp_path}/cache", *more,
        ]  # fmt: skip

    return build


@pytest.fixture
def config(words):
    return lambda model, *more, parts=None: compose(tuple(words(model, *more, parts=parts)))
