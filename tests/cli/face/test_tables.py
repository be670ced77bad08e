"""``recbench.results``: the same rows from folders and from MLflow."""

from __future__ import annotations

import json

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import recbench


def test_one_row_a_run_with_what_differs(folders):
    folders.add("sasrec-a", 0.3)
    folders.add("sasrec-b", 0.5, seed=2, config={"model": {"hidden_size": 128}, "training": {"lr": 0.01}})
    folders.add("markov-a", 0.1, config={"model": {"name": "markov", "hidden_size": 64}})
    folders.broken("sasrec-c", "failed", "no")
    frame = recbench.results(folders.path)
    assert frame["key"].to_list() == ["markov-a", "sasrec-a", "sasrec-b"]
    assert frame["name"].to_list() == ["markov seed 1", "sasrec seed 1", "sasrec seed 2"]
    assert frame["model.hidden_size"].to_list() == [64, 64, 128]
    assert frame["training.lr"].to_list() == [0.001, 0.001, 0.01]
    assert "training.max_epochs" not in frame.columns  # the same in all
    assert set(frame["protocol"]) == {"leave_one_out-full-mask-v1"}
    for key, value in frame.select("key", "test/ndcg@10").iter_rows():
        assert value == json.loads((folders.path / key / "metrics.json").read_text())["test/ndcg@10"]
    assert frame["cost/train_seconds"].dtype == pl.Float64
    assert frame["updated"][0].isoformat() == "2023-11-14T22:14:20+00:00"
    assert frame["folder"][0] == str(folders.path / "markov-a")


def test_unfinished_runs_have_a_row_if_they_are_asked_for(folders):
    folders.add("sasrec-a")
    folders.broken("sasrec-b", "failed", "no")
    frame = recbench.results(folders.path, unfinished=True)
    assert dict(frame.select("key", "state").iter_rows()) == {"sasrec-a": "finished", "sasrec-b": "failed"}
    assert frame["test/ndcg@10"].null_count() == 1


def test_values_of_several_kinds_become_text(folders):
    folders.add("sasrec-a", config={"model": {"width": 8, "terms": ["a", "b"]}})
    folders.add("sasrec-b", config={"model": {"width": "wide", "terms": []}})
    folders.add("sasrec-c", config={"model": {"width": True, "terms": []}})
    frame = recbench.results(folders.path)
    assert frame["model.width"].to_list() == ["8", "wide", "True"]
    assert frame["model.terms"].to_list() == ['["a", "b"]', "[]", "[]"]


def test_no_run_is_a_user_error(folders, tmp_path):
    for source in (folders.path, tmp_path / "nowhere"):
        with pytest.raises(recbench.UserError):
            recbench.results(source)
    folders.broken("sasrec-b", "failed")
    with pytest.raises(recbench.UserError, match="unfinished=True"):
        recbench.results(folders.path)


@pytest.fixture(scope="module")
def tracked(tiny, tmp_path_factory):
    """(folder of runs, database) of a sweep that was sent to MLflow."""
    place = tmp_path_factory.mktemp("tracked")
    words = [word for word in tiny if word != "tracking=off"]
    uri = f"sqlite:///{place}/mlflow.db"
    store = [f"runs_dir={place}/runs", f"tracking.uri={uri}", "tracking.experiment=mini"]
    recbench.sweep("model=popularity,markov", "data.n_clusters=6", words, store)
    return place / "runs", uri


def test_mlflow_has_the_same_rows(tracked):
    runs, uri = tracked
    ours, theirs = recbench.results(runs), recbench.results(uri, experiment="mini")
    shared = [name for name in ours.columns if name in theirs.columns]
    assert {"key", "name", "model", "data", "protocol", "seed", "distillation", "folder"} <= set(shared)
    assert {"test/ndcg@10", "validation/mrr", "cost/train_seconds"} <= set(shared)
    both = (frame.select(shared).drop("updated").sort("key") for frame in (ours, theirs))
    assert_frame_equal(*both, check_dtypes=False)


def test_the_parent_of_a_sweep_is_no_row(tracked):
    assert recbench.results(tracked[1], experiment="mini").height == 2


def test_a_single_run_is_sent_where_the_command_line_sends_it(tracked, tiny):
    runs, uri = tracked
    words = [word for word in tiny if word != "tracking=off"]
    recbench.run("model=popularity", words, f"runs_dir={runs}", f"tracking.uri={uri}", "tracking.experiment=single")
    assert recbench.results(uri, experiment="single")["model"].to_list() == ["popularity"]


def test_an_unknown_experiment_is_named(tracked):
    with pytest.raises(recbench.UserError, match="did you mean 'mini'"):
        recbench.results(tracked[1], experiment="minni")
    with pytest.raises(recbench.UserError, match="no finished run"):
        recbench.results(tracked[1], experiment="Default")


def test_a_store_that_is_not_there_is_a_user_error_and_is_not_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(recbench.UserError, match="no database"):
        recbench.results("sqlite:///mlflow.db")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(recbench.UserError, match="not reachable"):
        recbench.results("http://127.0.0.1:9")
    with pytest.raises(recbench.UserError, match="no address"):
        recbench.results("ftp://x")
