"""The command over a stored run: tables, JSON, and one line for what is wrong."""

from __future__ import annotations

import json

import pytest

from recbench.cli.recommend.command import main, printable
from recbench.experiment.run import run


@pytest.fixture(scope="module")
def made(run_config, tmp_path_factory):
    return run(run_config(tmp_path_factory.mktemp("runs"), "model=markov"))


@pytest.fixture(scope="module")
def folder(made):
    return str(made.folder.path)


def test_several_users_and_histories_in_one_json(folder, tiny_data, capsys):
    names = tiny_data.user_ids()["user_id"][:2].to_list()
    items = tiny_data.item_table()["item"].to_list()
    words = [
        "--user",
        *names,
        "--history",
        f"{items[0]},{items[1]}",
        "--history",
        json.dumps(items[5:6]),
        "--k",
        "4",
        "--json",
    ]
    assert main([folder, *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [answer["history"] for answer in told["answers"]] == [*names, f"{items[0]}, {items[1]}", items[5]]
    assert all(len(answer["items"]) == 4 for answer in told["answers"])
    assert told["protocol"].startswith("leave_one_out-full-mask")


def test_the_table_shows_names_and_titles(folder, tiny_data, capsys):
    assert main([folder, "--history", tiny_data.item_table()["item"][0], "--k", "3"]) == 0
    out = capsys.readouterr().out
    assert "title" in out
    assert any(title in out for title in tiny_data.item_table()["title"].to_list())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a user with --user"),
        (["--user", "nobody"], "unknown user 'nobody'"),
        (["--user", "u000", "--k", "0"], "--k must be at least 1"),
        (["--history", "i01", "--times", "1", "--times", "2"], "--times stands once for each --history"),
        (["--history", "["], "cannot read [ as JSON"),
        (["--history", " , "], "the history is empty"),
        (["--usr", "u000"], "see recbench recommend --help"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(folder, words, message, capsys):
    assert main([folder, *words]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert main([str(tmp_path), "--user", "u000"]) == 2
    assert "holds no finished run" in capsys.readouterr().err


def test_a_tokenizer_recommends_nothing(run_config, tmp_path, capsys):
    tokenizer = run(run_config(tmp_path, "model=random_ids"))
    assert main([str(tokenizer.folder.path), "--user", "u000"]) == 2
    assert "ranks nothing" in capsys.readouterr().err


def test_data_that_are_others_are_refused(made, tmp_path, capsys):
    import shutil

    copy = tmp_path / made.folder.key
    shutil.copytree(made.folder.path, copy)
    told = json.loads((copy / "provenance.json").read_text())
    (copy / "provenance.json").write_text(json.dumps({**told, "data_fingerprint": "another"}))
    assert main([str(copy), "--user", "u000"]) == 2
    assert "not those that" in capsys.readouterr().err


def test_a_title_cannot_steer_the_terminal():
    assert printable("\x1b[31mred\x07\nnext\x9b2J") == " [31mred  next 2J"
    assert printable(None) == ""
    assert printable("Füße 日本") == "Füße 日本"
