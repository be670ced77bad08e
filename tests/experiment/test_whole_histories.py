"""A model of sets under ``holdout`` reads whole histories wherever it is asked, whatever ``training.max_length`` says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recbench.cli.audit.probe import order_probe
from recbench.cli.export.command import main
from recbench.cli.recommend.answer import scores_of
from recbench.cli.recommend.histories import histories_of_users
from recbench.cli.recommend.model_of_run import open_model
from recbench.experiment.asking import read_length
from recbench.experiment.context import RunContext
from recbench.experiment.run import run
from recbench.experiment.shuffled import rank_changed, shuffled_figures


@pytest.fixture(scope="module")
def made(run_config, tmp_path_factory):
    """A closed form of sets whose histories are all longer than ``max_length``."""
    words = ["model=ease", "protocol=holdout", "training.max_length=1"]
    return run(run_config(tmp_path_factory.mktemp("runs"), *words))


@pytest.fixture(scope="module")
def opened(made):
    return open_model(made.folder.path)


def test_shuffled_histories_and_the_probe_of_order_change_nothing(made, opened):
    stage = RunContext.of(made.config)
    ranks = rank_changed(opened.model, stage.data, stage.split, made.config, lambda batch: batch)
    plain = made.metrics["test/ndcg@10"]
    assert ranks.metrics([10])["ndcg@10"] == pytest.approx(plain)
    assert shuffled_figures(opened.model, stage.data, stage.split, made.config)[
        "test/shuffled_ndcg@10"
    ] == pytest.approx(plain)
    probe = order_probe(made, stage)
    assert (probe["in_order"], probe["unchanged"]) == (pytest.approx(plain), 1.0)


def test_recommend_and_export_read_all_of_it(made, opened, tmp_path):
    user = opened.stage.data.user_ids()["user_id"][0]
    (history,) = histories_of_users(opened.stage.data, opened.stage.split, [user], as_in_test=True)
    short = type(history)(history.label, history.user, history.items[-1:], history.times[-1:], None)
    whole, last = (scores_of(opened, [one]).numpy() for one in (history, short))
    assert not np.allclose(whole, last)
    assert main([str(made.folder.path), "--to", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out" / "export.json").read_text())
    assert told["max_length"] == read_length(opened.model, opened.stage.split, opened.config) > 5
