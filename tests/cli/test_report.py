"""The command."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import polars as pl
import pytest
import yaml

from recbench.cli.report import main, read_words


def said(capsys, *words):
    status = main(list(words))
    return status, capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "say what to report on"),
        (("--table",), "unknown option --table"),
        (("a", "b"), "one study at a time"),
        (("runs_dir=",), "cannot read 'runs_dir='"),
        (("slmrec_dept",), "did you mean 'slmrec_depth'"),
        (("runs_dir=/nowhere/runs",), "there is no folder /nowhere/runs"),
    ],
)
def test_wrong_use_is_one_line(capsys, tmp_path, monkeypatch, words, line):
    monkeypatch.chdir(tmp_path)
    status, last = said(capsys, *words)
    assert status == 2
    assert last.startswith("error: ")
    assert line in last


def test_words_are_told_apart():
    assert read_words(["name", "out=a", "data.raw_dir=b", "metric=mrr"]) == (
        "name",
        {"out": "a", "metric": "mrr"},
        ("data.raw_dir=b",),
    )


def test_help_names_every_word(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"{word}=" in text for word in ("runs_dir", "out", "metric", "reference", "cache_dir", "tracking"))


def test_a_folder_is_reported_into_reports(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folders.add("a-1")
    folders.add("b-1", config={"model": {"name": "b"}})
    assert main([f"runs_dir={folders.path}", "model=b", "tracking=off"]) == 0
    out = tmp_path / "reports" / "runs-model_b"
    assert sorted(path.name for path in out.iterdir()) == [
        "leaderboard.csv",
        "report.html",
        "report.md",
        "report.tex",
        "runs.csv",
    ]
    assert pl.read_csv(out / "leaderboard.csv")["row"].to_list() == ["b"]


@pytest.fixture
def study(folders, tmp_path, monkeypatch):
    """A study whose data are not here, with results.csv; its runs are synthetic folders."""
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "experiments" / "mini"
    home.mkdir(parents=True)
    content = {
        "question": "Which one?",
        "base": ["data=table", "data.path=gone.csv"],
        "rows": {"floor": ["model=popularity"], "other": ["model=markov"]},
        "reference": "floor",
        "columns": ["hr@10", "ndcg@10"],
        "published": [{"label": "Theirs <b>", "source": "paper", "hr@10": 0.9}],
    }
    (home / "study.yaml").write_text(yaml.safe_dump(content))
    for name, skill in (("floor", 0.1), ("other", 0.9)):
        folders.add(f"{name}-1", skill, config={"model": {"name": name}})
    lines = [
        "row,phase,seed,key",
        "floor,final,1,floor-1",
        "other,search,1,other-9",
        "other,final,1,other-1",
        "other,final,2,other-2",
    ]
    (home / "results.csv").write_text("\n".join(lines) + "\n")
    return home


def test_a_study_whose_data_are_gone_is_told_from_its_results(study, tmp_path, capsys):
    before = (study / "results.csv").read_text()
    assert main(["mini", f"out={tmp_path / 'out'}"]) == 0
    assert "its rows are taken from results.csv" in capsys.readouterr().err
    assert (study / "results.csv").read_text() == before
    table = pl.read_csv(tmp_path / "out" / "leaderboard.csv")
    assert table["row"].to_list() == ["other", "floor", "Theirs <b>"]
    assert table["kind"].to_list() == ["measured", "measured", "published"]
    assert table["metric"].to_list() == ["hr@10"] * 3
    text = (tmp_path / "out" / "report.html").read_text()
    assert "Theirs &lt;b&gt; (published: paper)" in text
    assert "there is no folder other-2" in text
    assert "against floor" in text
    assert "Which one?" in text


def test_a_study_without_any_run_is_one_line(study, tmp_path, capsys):
    status, last = said(capsys, "mini", f"runs_dir={tmp_path / 'none'}", f"out={tmp_path / 'out'}")
    assert status == 2
    assert "holds no run of the study mini, and its results.csv tells of none; run it with: recbench study mini" in last


def test_a_study_without_data_or_results_says_what_is_missing(study, tmp_path, capsys):
    (study / "results.csv").unlink()
    status, last = said(capsys, "mini", f"out={tmp_path / 'out'}")
    assert status == 2
    assert "gone.csv" in last


def test_report_files_are_valid_json_and_csv_for_machines(folders, tmp_path):
    path = folders.add("a-1")
    (path / "metrics-keep.json").write_text(
        json.dumps({"test/keep_ndcg@10": 0.2, "keep_protocol": "leave_one_out-full-keep-v1"})
    )
    assert main([f"runs_dir={folders.path}", f"out={tmp_path / 'out'}", "tracking=off"]) == 0
    table = pl.read_csv(tmp_path / "out" / "leaderboard.csv")
    assert table["protocol"].to_list() == ["leave_one_out-full-mask-v1", "leave_one_out-full-keep-v1"]


@pytest.fixture
def committed(study, folders, tmp_path):
    """The study as it is committed: results.csv and ranks.npz of runs whose folders are gone."""
    from recbench.core.run_folder import RunFolder
    from recbench.study.ranks_file import FILE, StudyRanks, collect_ranks, write_ranks

    jobs = [
        SimpleNamespace(folder=RunFolder(folders.path / f"{row}-1"), key=f"{row}-1", row=row, seed=1)
        for row in ("floor", "other")
    ]
    write_ranks(study / FILE, collect_ranks(jobs, StudyRanks()))
    lines = ["row,phase,seed,key,data,protocol,hr@10,ndcg@10,keep_hr@10,keep_protocol,train_seconds,cut_off,commit"]
    for job in jobs:
        figures = job.folder.read("metrics.json")
        lines.append(
            f"{job.row},final,1,{job.key},synthetic,{figures['protocol']},{figures['test/hr@10']},{figures['test/ndcg@10']},.5,"
            f"leave_one_out-full-keep-v1,12.5,{job.row == 'other'},c0ffee-dirty"
        )
    (study / "results.csv").write_text("\n".join(lines) + "\n")
    return study


def test_a_study_is_told_from_what_it_commits_as_from_its_runs(committed, tmp_path):
    assert main(["mini", f"out={tmp_path / 'with'}", "tracking=off"]) == 0
    assert main(["mini", f"runs_dir={tmp_path / 'none'}", f"out={tmp_path / 'without'}", "tracking=off"]) == 0
    own, told = (pl.read_csv(tmp_path / name / "leaderboard.csv") for name in ("with", "without"))
    names = ["row", "metric", "hr@10", "ndcg@10", "low", "high", "relative", "relative_low", "p_holm", "group"]
    main_board = told.filter(pl.col("protocol") == "leave_one_out-full-mask-v1")
    assert main_board.select(names).drop_nulls("low").equals(own.select(names).drop_nulls("low"))
    assert main_board["train_seconds"].to_list()[:2] == [12.5, 12.5]
    asked = told.filter(pl.col("protocol") == "leave_one_out-full-keep-v1")
    assert asked["keep_hr@10"].to_list() == [0.5, 0.5]
    text = (tmp_path / "without" / "report.md").read_text()
    assert "None of them is in the folder of runs; the figures are those of results.csv." in text
    assert "The ranks of 2 runs come from ranks.npz." in text
    assert "By user activity" not in text.partition("skipped")[2]
    assert "perhaps not trained to their end: other." in text
    assert "c0ffee + changes" in text


def test_a_study_that_keeps_no_ranks_says_so_once_and_its_files_stay(committed, tmp_path):
    (committed / "ranks.npz").unlink()
    before = {path.name: path.read_bytes() for path in committed.iterdir()}
    assert main(["mini", f"runs_dir={tmp_path / 'none'}", f"out={tmp_path / 'out'}", "tracking=off"]) == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.count("No intervals can be computed") == 1
    assert "low" not in pl.read_csv(tmp_path / "out" / "leaderboard.csv").columns
    assert {path.name: path.read_bytes() for path in committed.iterdir()} == before


def test_one_run_here_and_one_told_share_a_table(committed, folders, tmp_path):
    shutil.rmtree(folders.path / "floor-1")
    assert main(["mini", f"out={tmp_path / 'out'}", "tracking=off"]) == 0
    table = pl.read_csv(tmp_path / "out" / "leaderboard.csv").filter(pl.col("kind") == "measured")
    boards = table.filter(pl.col("protocol") == "leave_one_out-full-mask-v1")
    assert sorted(boards["row"].to_list()) == ["floor", "other"]
    assert len(boards.select("data", "data_fingerprint", "split_hash").unique()) == 1
    assert boards.filter(pl.col("row") == "other")["relative_low"].is_not_null().all()
    assert "1 of these are not in the folder of runs" in (tmp_path / "out" / "report.md").read_text()
