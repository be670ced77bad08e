"""Lists of all users and scores of given pairs: what single questions answer, in one file, whole or not at all."""

from __future__ import annotations

import io
import json

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from recbench.cli.recommend import bulk
from recbench.cli.recommend.answer import recommend
from recbench.cli.recommend.command import main
from recbench.cli.recommend.histories import histories_of_users
from recbench.cli.recommend.model_of_run import open_model
from recbench.core.errors import UserError


@pytest.fixture(scope="module")
def opened(finished):
    return open_model(finished.folder.path)


@pytest.fixture
def folder(finished):
    return str(finished.folder.path)


@pytest.mark.parametrize("words", [[], ["--as-in-test"], ["--keep-seen"]])
def test_the_lists_of_all_users_are_those_of_single_questions(opened, folder, tmp_path, monkeypatch, words, capsys):
    monkeypatch.setattr("recbench.evaluation.blocks.block_rows", lambda *_: 50)
    to = tmp_path / "lists.parquet"
    assert main([folder, "--all", "--to", str(to), "--k", "7", *words]) == 0
    data, split = opened.stage.data, opened.stage.split
    names = data.user_ids()["user_id"].to_list()
    if "--as-in-test" in words:
        names = [names[user] for user in split.test.user]
    found = pl.read_parquet(to)
    assert f"{7 * len(names):,} rows, the best 7 items of {len(names):,} users" in capsys.readouterr().out
    assert found["user"].unique(maintain_order=True).to_list() == names
    items = data.item_table()["item"].to_list()
    histories = histories_of_users(data, split, names, "--as-in-test" in words)
    answers = recommend(opened, histories, 7, False if "--keep-seen" in words else None)
    assert found["item"].to_list() == [items[item - 1] for answer in answers for item in answer.items]
    assert found["rank"].to_list() == [1, 2, 3, 4, 5, 6, 7] * len(names)
    np.testing.assert_allclose(found["score"], [score for answer in answers for score in answer.scores], rtol=1e-4)


def test_a_csv_holds_the_same_rows(opened, tmp_path):
    bulk.recommend_all(opened, tmp_path / "a.parquet", 3)
    counts = bulk.recommend_all(opened, tmp_path / "a.csv", 3)
    parquet, csv = pl.read_parquet(tmp_path / "a.parquet"), pl.read_csv(tmp_path / "a.csv", schema=bulk.list_columns())
    assert_frame_equal(parquet, csv)
    assert counts == {"users": opened.stage.data.n_users, "rows": parquet.height, "short": 0}


def test_a_model_of_lists_answers_all_users_and_counts_short_lists(opened_of, tmp_path):
    tiger = opened_of("tiger", beams=8)
    counts = bulk.recommend_all(tiger, tmp_path / "a.parquet", 8)
    found = pl.read_parquet(tmp_path / "a.parquet")
    assert counts["rows"] == found.height < 8 * counts["users"]
    assert 0 < counts["short"] <= counts["users"]
    ranks = found.group_by("user", maintain_order=True).agg("rank")["rank"].to_list()
    assert all(rank == list(range(1, len(rank) + 1)) for rank in ranks)
    with pytest.raises(UserError, match="'tiger' ends its search at a list"):
        bulk.score_pairs(tiger, pl.DataFrame({"user": ["u000"], "item": ["i01"]}))


def test_a_failure_leaves_the_old_file_and_nothing_else(opened, tmp_path, monkeypatch):
    to = tmp_path / "lists.parquet"
    to.write_text("old")
    monkeypatch.setattr("recbench.evaluation.blocks.block_rows", lambda *_: 50)
    calls = []

    def fails_later(*arguments):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("lost")
        return original(*arguments)

    original = bulk.best_of
    monkeypatch.setattr(bulk, "best_of", fails_later)
    with pytest.raises(RuntimeError, match="lost"):
        bulk.recommend_all(opened, to, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["lists.parquet"]
    assert to.read_text() == "old"


def pairs_of(opened, n=40):
    generator = np.random.default_rng(1)
    users, items = opened.stage.data.user_ids()["user_id"].to_list(), opened.stage.data.item_table()["item"].to_list()
    return pl.DataFrame({"user": generator.choice(users, n), "item": generator.choice(items, n), "note": range(n)})


def test_scores_of_pairs_are_those_of_the_model_in_the_order_of_the_file(opened, monkeypatch):
    monkeypatch.setattr("recbench.evaluation.blocks.block_rows", lambda *_: 7)
    pairs = pairs_of(opened).select("user", "item")
    scored, unknown = bulk.score_pairs(opened, pairs)
    assert [count for _, count, _ in unknown] == [0, 0, 0]
    assert_frame_equal(scored.select("user", "item"), pairs)
    number = {name: place for place, name in enumerate(opened.stage.data.item_table()["item"], start=1)}
    for user, item, score, seen in scored.iter_rows():
        (history,) = histories_of_users(opened.stage.data, opened.stage.split, [user])
        expected = bulk.scores_of(opened, [history])[0, number[item]].item()
        assert score == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert seen == (number[item] in history.items)
    assert 0 < scored["seen"].sum() < scored.height


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_pairs_are_read_from_any_format(opened, folder, tmp_path, ending, capsys):
    pairs, path = pairs_of(opened).rename({"user": "user_id"}), tmp_path / f"pairs.{ending}"
    {
        "csv": pairs.write_csv,
        "tsv": lambda p: pairs.write_csv(p, separator="\t"),
        "jsonl": pairs.write_ndjson,
        "parquet": pairs.write_parquet,
    }[ending](path)
    assert main([folder, "--candidates", str(path)]) == 0
    printed = pl.read_csv(io.StringIO(capsys.readouterr().out), infer_schema=False)
    assert printed.columns == ["user", "item", "score", "seen"]
    assert printed["user"].to_list() == pairs["user_id"].to_list()
    assert main([folder, "--candidates", str(path), "--to", str(tmp_path / "scored.parquet")]) == 0
    assert pl.read_parquet(tmp_path / "scored.parquet")["item"].to_list() == pairs["item"].to_list()
    capsys.readouterr()
    assert main([folder, "--candidates", str(path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["pairs"]) == pairs.height


def test_unknown_ids_stop_with_counts_or_are_left_out_with_counts(opened, folder, tmp_path, capsys):
    user, item = pairs_of(opened).row(0)[:2]
    path = tmp_path / "pairs.csv"
    path.write_text(f"item,user\n{item},{user}\nnew-item,{user}\n{item},nobody\nnew-item,nobody\n")
    assert main([folder, "--candidates", str(path)]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "2 of 4 pairs name an unknown user (such as 'nobody')" in said.err
    assert "2 of 4 an unknown item (such as 'new-item'); leave them out with --unknown skip" in said.err
    assert main([folder, "--candidates", str(path), "--unknown", "skip"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "user,item,score,seen"
    assert len(said.out.splitlines()) == 2
    assert said.err.startswith("left out: 2 of 4 pairs")
    path.write_text("item,user\na,b\n")
    assert main([folder, "--candidates", str(path), "--unknown", "skip"]) == 2
    assert capsys.readouterr().err.endswith("is left to score\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,thing\na,b\n", "has no column item or item_id; its columns are user, thing"),
        ("user,user_id,item\na,b,c\n", "has both user and user_id"),
        ("user,item\n", "has a header and no pairs"),
        ("user,item\na,b\nc,\n", "1 of 2 pairs lack an id, the first is number 2"),
        ("", "cannot read"),
    ],
)
def test_a_file_without_pairs_is_answered_in_one_line(folder, tmp_path, text, message, capsys):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    assert main([folder, "--candidates", str(path)]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--all"], "--all writes a file: name it with --to FILE.parquet"),
        (["--all", "--to", "a.txt"], "must end in .parquet or .csv"),
        (["--all", "--to", "nowhere/a.csv"], "there is no such folder"),
        (["--all", "--user", "u000", "--to", "a.csv"], "--all and --user or --history are questions of their own"),
        (["--user", "u000", "--to", "a.csv"], "--to is for --all and --candidates"),
        (["--candidates", "absent.csv"], "there is no file absent.csv"),
        (["--candidates", __file__], "its name must end in one of"),
        (["--candidates", "a.csv", "--unknown", "guess"], "see recbench recommend --help"),
    ],
)
def test_wrong_use_is_one_line(folder, words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([folder, *words]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert not list(tmp_path.iterdir())
