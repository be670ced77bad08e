"""One finished run, and files of other events of its items."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recbench.experiment.run import run


@pytest.fixture(scope="package")
def finished(run_config, tmp_path_factory):
    """A trained run on the tiny data."""
    words = ("model=sasrec", "model.hidden_size=16", "training.max_epochs=2", "training.max_length=20")
    return run(run_config(tmp_path_factory.mktemp("runs"), *words))


@pytest.fixture(scope="package")
def items(tiny_data):
    return tiny_data.item_table()["item"].to_list()


@pytest.fixture(scope="package")
def others(items, tmp_path_factory):
    """others(items, length=None): a CSV of 30 new users; the first visits all of the items, the others ``length`` of them or all."""

    def write(ids, length=None, seed=0):
        generator = np.random.default_rng(seed)
        path = tmp_path_factory.mktemp("others") / "new.csv"
        rows = [
            (f"new{user}", item, 1_600_000_000 + 1000 * place + user)
            for user in range(30)
            for place, item in enumerate(generator.permutation(ids).tolist()[: length if user else None])
        ]
        pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row").write_csv(path)
        return path

    return write
