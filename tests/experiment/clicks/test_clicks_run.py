"""Runs under protocol=clicks: what every model of clicks owes, what stands beside it, and what is answered to bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recbench.cli.main import main
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.evaluation.clicks import auc
from recbench.evaluation.ranking import ScoreError
from recbench.experiment import clicks
from recbench.experiment.build import build_model, load_model
from recbench.experiment.context import RunContext
from recbench.experiment.dependencies import dependency_configs
from recbench.experiment.run import floors, run
from recbench.experiment.step_time import time_step
from recbench.models.base import Recommender
from recbench.models.registry import lookup, model_names
from recbench.report.boards import boards_of
from recbench.report.collect import read_run
from recbench.report.verdicts import judged
from tests.experiment.clicks.conftest import planted, write_parts

LEARNERS = [name for name in model_names() if lookup(name).model.click_loss is not Recommender.click_loss]


def built(config, stage=None):
    stage = stage or RunContext.of(config)
    needed = {name: build_model(part, stage, {}) for name, part in dependency_configs(config).items()}
    for model in needed.values():
        for parameter in model.parameters():  # not alike for all rows, as before any training
            torch.nn.init.normal_(parameter, std=0.5)
    return stage, build_model(config, stage, needed).eval()


@pytest.mark.parametrize("model", [*LEARNERS, "sasrec"])
def test_order_company_and_block_size_of_rows_change_nothing(model, config):
    asked = config(model)
    stage, built_model = built(asked)
    rows = stage.split.test_rows
    together = clicks.predict(built_model, stage.split, rows, asked)
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = clicks.predict(built_model, stage.split, rows[order], asked, rows=7)
    np.testing.assert_allclose(shuffled, together[order], atol=1e-5)


@pytest.mark.parametrize("model", [*LEARNERS, "sasrec"])
def test_a_later_impression_never_changes_an_earlier_score(model, config, tmp_path):
    later = planted(seed=1).with_columns(time=pl.col("time") + 2000)[:80]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = config(model, parts=write_parts(tmp_path / "a", planted()))
    second = config(model, parts=write_parts(tmp_path / "b", planted(), later))
    found = []
    for asked in (first, second):
        stage, built_model = built(asked)
        found.append(clicks.predict(built_model, stage.split, stage.split.test_rows, asked))
    np.testing.assert_allclose(found[1][: len(found[0])], found[0], atol=1e-6)


@pytest.mark.parametrize("model", LEARNERS)
def test_every_parameter_gets_a_finite_gradient(model, config):
    asked = config(model)
    stage, built_model = built(asked)
    built_model.train()
    for parameter in built_model.parameters():  # off any flat place
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    batch = stage.split.clicks.batch(stage.split.train_rows[-200:], 10)
    built_model.training_loss(batch).backward()
    grads = {name: p.grad for name, p in built_model.named_parameters() if p.requires_grad}
    never = {"sampling_weights"}
    assert [
        n for n, g in grads.items() if (g is None or not g.isfinite().all() or not g.any()) and n not in never
    ] == []


@pytest.mark.parametrize("model", LEARNERS)
def test_finds_the_planted_rule_and_keeps_its_predictions(model, config):
    done = run(config(model, "training.max_epochs=12"))
    stored = pl.read_parquet(done.folder.predictions)
    assert auc(stored["label"].to_numpy(), stored["logit"].to_numpy()) == pytest.approx(done.metrics["test/auc"])
    # The rule is a sum modulo 3 of two fields: regression over single values cannot know it.
    assert done.metrics["test/auc"] > (0.45 if model == "lr" else 0.7)
    stage = RunContext.of(done.config)
    again = clicks.predict(load_model(done, stage), stage.split, stage.split.test_rows, done.config)
    np.testing.assert_array_equal(again[:, 0], stored["logit"].to_numpy())


def test_the_floors_count_and_the_constant_has_ne_1(config):
    asked = config("lr")
    stage = RunContext.of(asked)
    nothing, item, pair = floors(asked, stage)
    assert nothing.metrics["test/auc"] == 0.5
    assert nothing.metrics["test/ne"] == pytest.approx(1.0, abs=1e-6)
    rows, data = stage.split.train_rows, stage.split.clicks
    one = rows[data.item[rows] == 5]
    rate = (data.label[one, 0].sum() + 10 * data.label[rows, 0].mean()) / (len(one) + 10)
    assert float(load_model(item, stage).item_rate[5]) == pytest.approx(rate)
    assert pair.metrics["test/auc"] > item.metrics["test/auc"]


def test_counts_can_be_tested_alone_and_validated_later(config):
    asked = config("click_rate")
    alone = run(replace(asked, evaluation=replace(asked.evaluation, validate=False)))
    assert "validation/auc" not in alone.metrics
    later = run(asked)
    assert later.reused
    assert later.folder.key == alone.folder.key
    assert (
        later.metrics["validation/auc"]
        == clicks.validate(load_model(later, stage := RunContext.of(asked)), stage.split, asked)["auc"]
    )


def test_a_sequential_model_is_trained_on_the_clicks_and_gives_an_order(config):
    done = run(config("sasrec", "training.max_epochs=2"))
    assert {"test/auc", "test/gauc"} <= done.metrics.keys()
    assert not {"test/logloss", "test/calibration"} & done.metrics.keys()


@pytest.mark.parametrize("model", ["deepfm", "sasrec"])
def test_the_hours_of_a_study_come_from_the_rows_that_a_run_trains_on(model, config):
    asked = config(model)
    stage = RunContext.of(asked)
    found = time_step(asked, stage)
    rows = len(stage.split.train_rows) if model == "deepfm" else int((stage.train.end - stage.train.start - 1).sum())
    assert found.steps == -(-rows // 128)
    assert found.step > 0
    assert found.validation > 0


@pytest.mark.parametrize("model", LEARNERS)
def test_nan_is_refused_by_the_number_of_its_row(model, config):
    asked = config(model)
    stage, built_model = built(asked)
    rows, data = stage.split.test_rows, stage.split.clicks
    with torch.no_grad():  # of what all rows share, or of the item of the fourth
        for name, parameter in built_model.named_parameters():
            if name == "bias":
                parameter[... if parameter.ndim == 0 else int(data.item[rows[3]])] = torch.nan
    first = rows[0] if built_model.bias.ndim == 0 else next(r for r in rows if data.item[r] == data.item[rows[3]])
    with pytest.raises(ScoreError, match=rf"row {first} "):
        clicks.predict(built_model, stage.split, rows, asked)


@pytest.mark.parametrize("model", [*LEARNERS, "sasrec"])
def test_values_and_a_field_that_training_lacks_are_answered(model, config, tmp_path):
    rows = planted()
    late = pl.int_range(pl.len()) >= 1260  # the test and validation parts
    changed = rows.with_columns(
        *(
            pl.when(late).then(pl.col(name) + "new").otherwise(pl.col(name))
            for name in ("user", "item", "group", "tags")
        ),
        only_later=pl.when(late).then(pl.lit("x")),
    )
    asked = config(model, parts=write_parts(tmp_path, changed))
    stage, built_model = built(asked)
    answers = clicks.predict(built_model, stage.split, stage.split.test_rows, asked)
    assert np.isfinite(answers).all()
    assert stage.split.clicks.fields.categories["only_later"] == 2  # missing and unknown


def test_models_that_cannot_are_refused_by_name(config):
    for model, protocol, said in (
        ("popularity", "clicks", "'popularity' cannot say how likely"),
        ("fm", "leave_one_out", "'fm' predicts clicks and ranks no items"),
        ("sasrec", "clicks", "no distillation"),
    ):
        more = ["distillation=logits"] if model == "sasrec" else []
        with pytest.raises(UserError, match=said):
            run(config(model, f"protocol={protocol}", *more))
    with pytest.raises(UserError, match=r"evaluation\.monitor=ndcg@5"):
        config("fm", "evaluation.monitor=ndcg@5")


def test_the_command_shows_the_floors_and_compares_by_auc(words, capsys):
    assert main(words("fm")) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("click_rate by pair", "auc", "calibration", "rows to train"))
    runs = next(word for word in words("fm") if word.startswith("runs_dir=")).partition("=")[2]
    folders = [str(folder.path) for folder in map(RunFolder, sorted(Path(runs).glob("*-*"))) if folder.finished]
    assert main(["compare", *folders, "--metric", "logloss", "--resamples", "200"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "fm" in line or "click_rate" in line]
    assert len(lines) == 4
    assert main(["compare", *folders, "--metric", "ndcg@10"]) == 2
    board = judged(boards_of([read_run(Path(folder)) for folder in folders], metric="ne")[0], 200)
    assert any("No intervals: ne cannot be had of clicks user by user" in note for note in board.notes)
