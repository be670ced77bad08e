"""``Result`` and ``recbench.load``: everything of a finished run."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

import polars as pl
import pytest

import recbench


def test_ranks_are_those_of_the_test_and_join_with_raw_ids(trained):
    ranks = trained.ranks
    assert trained.metrics["test/hr@10"] == pytest.approx((ranks["rank"] <= 10).mean())
    named = ranks.join(trained.data.users, on="user").join(trained.data.items, left_on="target", right_on="item_id")
    asked = trained.data.test
    assert named.height == asked.height
    pairs = set(zip(asked["user"], asked["item"], strict=True))
    assert set(zip(named["user_id"], named["item"], strict=True)) == pairs


def test_the_model_is_ready_to_answer(trained):
    import torch

    assert isinstance(trained.model, torch.nn.Module)
    assert not trained.model.training
    assert not any(parameter.requires_grad for parameter in trained.model.parameters())
    assert trained.model is trained.model


def test_it_recommends_for_users_and_histories(trained):
    users = trained.data.users["user_id"].to_list()[:2]
    one = trained.recommend(user=users[0], k=3)
    assert one.columns == ["user", "rank", "item", "title", "score"]
    assert one["rank"].to_list() == [1, 2, 3]
    assert one["score"].is_sorted(descending=True)
    both = trained.recommend(user=users, k=3)
    assert both.filter(pl.col("user") == users[0])["item"].to_list() == one["item"].to_list()
    # The same events, typed: the same list.
    events = trained.data.interactions.filter(pl.col("user") == users[0])["item"].to_list()
    typed = trained.recommend(history=events, k=3)
    assert typed["item"].to_list() == one["item"].to_list()
    assert typed["history"].to_list() == [0, 0, 0]
    titles = dict(trained.data.items.select("item", "title").iter_rows())
    assert [titles[item] for item in one["item"]] == one["title"].to_list()
    assert trained.recommend(history=[events, events[:1]], k=2)["history"].to_list() == [0, 0, 1, 1]


def test_in_test_means_before_the_target(trained):
    case = trained.data.test.row(0, named=True)
    history = trained.data.interactions[case["history_start"] : case["history_end"]]
    asked = trained.recommend(user=case["user"], as_in_test=True, k=5)
    assert asked["item"].to_list() == trained.recommend(history=history["item"].to_list(), k=5)["item"].to_list()
    rank = trained.ranks.filter(pl.col("case") == case["case"])["rank"].item()
    listed = trained.recommend(user=case["user"], as_in_test=True, k=60)["item"].to_list()
    assert listed.index(case["item"]) + 1 == rank


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, "either a user or a history"),
        ({"user": "x", "history": ["y"]}, "either a user or a history"),
        ({"user": "nobody"}, "unknown user 'nobody'"),
        ({"history": ["nothing"]}, "unknown item 'nothing'"),
        ({"history": []}, "empty"),
        ({"history": "i01"}, "a history is a list"),
        ({"history": ["i01"], "k": 0}, "at least 1"),
        ({"history": ["i01"], "times": [1, 2]}, "2 timestamps for 1 items"),
        ({"history": [["i01"], ["i02"]], "times": [[1]]}, "1 times for 2 histories"),
    ],
)
def test_a_mistake_is_a_user_error(trained, asked, expected):
    with pytest.raises(recbench.UserError, match=expected):
        trained.recommend(**asked)


def test_times_may_be_dates(trained):
    item = trained.data.items["item"][0]
    day = datetime(2026, 1, 31, 12, tzinfo=UTC)
    times = (day, day.date(), "2026-01-31", 1769860800)
    lists = [trained.recommend(history=[item], times=[time])["item"].to_list() for time in times]
    assert lists == [lists[0]] * 4


def test_a_run_tells_what_it_is(trained, counted):
    assert trained.config.model.hidden_size == 16
    assert (trained.name, counted[2].name) == ("sasrec seed 1", "markov seed 1")
    assert trained.key == trained.folder.name
    assert trained.curve.height == 2
    assert "validation/ndcg@10" in trained.curve.columns
    assert counted[2].curve.is_empty()
    assert trained.dependencies == {}
    assert trained.provenance["protocol"] == trained.metrics["protocol"]
    assert f"ndcg@10 {trained.metrics['test/ndcg@10']:.4f}" in repr(trained)
    assert f"{trained.metrics['test/ndcg@10']:.4f}" in trained._repr_html_()


def test_dependencies_are_results(folders):
    folders.add("sasrec-table")
    made = recbench.load(folders.add("slmrec-a", dependencies={"item_table": "sasrec-table"}))
    assert made.dependencies["item_table"].key == "sasrec-table"
    shutil.rmtree(folders.path / "sasrec-table")
    with pytest.raises(recbench.UserError, match="sasrec-table holds no finished run"):
        _ = recbench.load(made.folder).dependencies


def test_loading_gives_the_same_run(trained, monkeypatch):
    monkeypatch.chdir(trained.folder.parent)
    again = recbench.load(trained.key)
    assert again.folder == trained.folder
    assert again.reused is None
    assert again.metrics == trained.metrics
    user = again.data.users["user_id"][3]
    assert again.recommend(user=user).equals(trained.recommend(user=user))


def test_what_is_no_finished_run_is_refused(folders, tmp_path):
    folders.broken("sasrec-x", "failed")
    for folder in (folders.path / "sasrec-x", tmp_path / "nothing"):
        with pytest.raises(recbench.UserError, match="holds no finished run"):
            recbench.load(folder)


def test_other_data_are_refused(trained, tmp_path):
    """The numbers of its items would mean other items."""
    copy = shutil.copytree(trained.folder, tmp_path / trained.key)
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("n_items: 60", "n_items: 61"))
    with pytest.raises(recbench.UserError, match="not those that"):
        _ = recbench.load(copy).data


def test_what_is_typed_into_a_config_is_no_markup(folders):
    made = folders.add("sasrec-a", config={"data": {"name": "<b>x</b>"}})
    assert "<b>x</b>" not in recbench.load(made)._repr_html_()


def test_a_run_that_ranks_nothing_has_no_ranks(folders):
    with pytest.raises(recbench.UserError, match="ranks nothing"):
        _ = recbench.load(folders.add("opq-a", ranks=False)).ranks
