"""What learns while it serves, and what answers for several labels."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from recbench.core.errors import UserError
from recbench.experiment import clicks
from recbench.experiment.build import load_model
from recbench.experiment.context import RunContext
from recbench.experiment.run import run
from recbench.nn.fields.quadratic import QuadraticLayer
from tests.experiment.clicks.conftest import planted

BASE = ["model.base={model: fm}", "model.chunk=32", "training.max_epochs=3"]


@pytest.mark.parametrize("by", ["hidden", "nothing"])
def test_a_memory_of_strength_0_is_its_base_and_another_is_not(by, config):
    silent = run(config("reloop2", *BASE, f"model.by={by}", "model.strength=0"))
    base = silent.dependencies["base"]
    pair = [pl.read_parquet(one.folder.predictions)["logit"].to_numpy() for one in (silent, base)]
    np.testing.assert_allclose(np.clip(pair[1], -9.2, 9.2), pair[0], atol=1e-3)
    spoken = run(config("reloop2", *BASE, f"model.by={by}", "model.strength=0.5"))
    assert not np.allclose(pl.read_parquet(spoken.folder.predictions)["logit"].to_numpy(), pair[0], atol=1e-3)
    assert spoken.metrics["protocol"] == base.metrics["protocol"] + "-stream"


def test_a_memory_answers_a_chunk_before_it_sees_its_labels_and_in_order_of_time(config):
    done = run(config("reloop2", *BASE, "model.by=nothing", "model.strength=1.0", "model.half_life=1000000"))
    stage = RunContext.of(done.config)
    model, rows = load_model(done, stage), stage.split.test_rows
    first = clicks.predict(model, stage.split, rows, done.config)
    model.forget()
    order = np.random.default_rng(0).permutation(len(rows))
    again = clicks.predict(model, stage.split, rows[order], done.config)
    base = clicks.predict(model.base.model, stage.split, rows, done.config)[:, 0]
    np.testing.assert_allclose(first[:32, 0], base[:32], atol=1e-4)  # of rows in order of time: nothing is known yet
    p = 1 / (1 + np.exp(-base))
    error = (np.asarray(stage.split.clicks.label[rows[:32], 0]) - p[:32]).mean()
    expected = np.clip(p[32:64] + error, 1e-4, 1 - 1e-4)
    np.testing.assert_allclose(1 / (1 + np.exp(-first[32:64, 0])), expected, atol=1e-5)
    times = np.asarray(stage.split.clicks.time[rows])
    if len(np.unique(times[:33])) == 33:
        np.testing.assert_allclose(again[np.argsort(order)][:32], first[:32], atol=1e-5)


def test_a_memory_is_refused_where_there_is_no_order_or_no_chance(config):
    with pytest.raises(UserError, match=r"use protocol\.order=time"):
        run(config("reloop2", "protocol.order=random"))
    with pytest.raises(UserError, match=r"model\.base\.model=sasrec gives no chances"):
        run(config("reloop2", "model.base={model: sasrec}"))


def test_several_labels_have_figures_of_their_own(tmp_path, words, config):
    rng = np.random.default_rng(0)
    rows = planted().with_columns(buy=(pl.col("label") * pl.Series(rng.integers(0, 2, 1800))))
    rows.write_csv(tmp_path / "rows.csv")
    done = run(config("apem", "data.columns.labels=[buy]", "training.max_epochs=2"))
    assert {"test/auc", "test/auc:buy", "test/logloss:buy"} <= done.metrics.keys()
    assert {"label:buy", "logit:buy"} <= set(pl.read_parquet_schema(done.folder.predictions))
    assert load_model(done, RunContext.of(done.config)).n_tasks == 2


def test_rows_of_a_quadratic_layer_are_one_linear_map():
    torch.manual_seed(0)
    layer, x = QuadraticLayer(4, 3, 0.0).eval(), torch.randn(5, 4)
    one = QuadraticLayer(4, 1, 0.0).eval()
    weight, bias = layer.folded()
    with torch.no_grad():
        one.maps[0].weight.copy_(weight)
        one.maps[0].bias.copy_(bias)
    torch.testing.assert_close(one(x), layer(x))
