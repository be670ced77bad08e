"""Disparity between users of different attributes, where the data know some."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data.user_attributes import user_attributes
from recbench.evaluation.statistics.per_user import mean_per_user
from recbench.experiment.run import open_run, run


def test_the_gap_is_that_of_the_stored_ranks(run_config, tmp_path):
    made = run(run_config(tmp_path, "model=markov", "evaluation.metrics=[disparity]"))
    _, stage = open_run(made.folder.path)
    table = user_attributes(stage.data, made.config.data, made.config.cache_dir)
    assert table.columns == ["user", "group", "age", "region"]
    users, quality = mean_per_user([made.folder.ranks], "ndcg@10")
    values = pl.DataFrame({"user": np.asarray(users, np.int64), "ndcg": quality}).join(table, on="user")
    for name in ("group", "age", "region"):
        groups = values.group_by(name).agg(pl.col("ndcg").mean(), n=pl.len()).filter(pl.col("n") >= 10)["ndcg"]
        assert made.metrics[f"test/disparity_user_{name}@10"] == pytest.approx(groups.max() - groups.min())


def test_a_table_that_knows_nobody_is_refused_before_training(run_config, tmp_path):
    (tmp_path / "users.csv").write_text("user,age\nnobody,7\n")
    with pytest.raises(UserError, match="knows none of the"):
        run(
            run_config(
                tmp_path, "model=markov", "evaluation.metrics=[disparity]", f"data.users.path={tmp_path}/users.csv"
            )
        )
