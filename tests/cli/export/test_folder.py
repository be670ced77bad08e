"""What an export leaves, and that it is enough: a process that cannot import recbench asks it what the README says."""

from __future__ import annotations

import json
import subprocess
import sys

import polars as pl
import pytest

from recbench.cli.export import folder as module
from recbench.cli.export.command import main
from recbench.cli.recommend.command import main as recommend_main
from recbench.experiment.run import run

SASREC = [
    "model=sasrec",
    "model.hidden_size=16",
    "model.feedforward_size=16",
    "training.max_epochs=1",
    "training.batch_size=256",
]


@pytest.fixture(scope="module")
def made(run_config, tmp_path_factory):
    return run(run_config(tmp_path_factory.mktemp("runs"), *SASREC))


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    to = tmp_path_factory.mktemp("exports") / "sasrec"
    assert main([str(made.folder.path), "--to", str(to)]) == 0
    return to


def readme_code(folder):
    return (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]


def without_recbench(code, cwd):
    """Runs code in a process in which recbench cannot be imported; returns what it printed."""
    blocked = "import gc, sys\ngc.disable()\nsys.modules['recbench'] = None\n"
    done = subprocess.run([sys.executable, "-c", blocked + code], cwd=cwd, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def told_without_recbench(exported, timed):
    """What the READMEs of both exports print, one after the other in one process."""
    folders = (exported, timed)
    code = "import os\n" + "".join(f"os.chdir({str(folder)!r})\n{readme_code(folder)}\n" for folder in folders)
    return [eval(line) for line in without_recbench(code, exported).splitlines()]


def test_plain_torch_answers_as_recbench_does(made, exported, told_without_recbench, capsys):
    told = told_without_recbench[0]
    example = json.loads((exported / "items.json").read_text())[1][0]
    capsys.readouterr()
    assert recommend_main([str(made.folder.path), "--history", example, "--k", "10", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["answers"][0]["items"]
    assert [name for name, _ in told] == [row["item"] for row in expected]
    assert [title for _, title in told] == [row["title"] for row in expected]


@pytest.fixture(scope="module")
def timed(run_config, tmp_path_factory):
    """The export of a model that reads times."""
    folder = tmp_path_factory.mktemp("timed")
    words = [
        "model=tim4rec",
        "model.hidden_size=16",
        "model.head_size=8",
        "model.state_size=8",
        "model.n_layers=1",
        "training.max_epochs=1",
    ]
    made = run(run_config(folder, *words, "training.batch_size=1024", "training.max_length=5"))
    assert main([str(made.folder.path), "--to", str(folder / "out")]) == 0
    return folder / "out"


def test_the_readme_of_a_model_with_times_runs_too(told_without_recbench):
    assert len(told_without_recbench) == 2
    assert len(told_without_recbench[1]) == 10


def test_the_items_are_the_columns_of_the_scores(exported, tiny_data):
    table = pl.read_parquet(exported / "items.parquet")
    assert table["item_id"].to_list() == list(range(1, tiny_data.n_items + 1))
    listed = json.loads((exported / "items.json").read_text())
    assert listed[0] is None
    assert [name for name, _ in listed[1:]] == table["item"].to_list() == tiny_data.item_table()["item"].to_list()


def test_the_description_says_what_was_checked(made, exported):
    told = json.loads((exported / "export.json").read_text())
    assert told["run"] == made.folder.key
    assert told["checked_histories"] == 64
    assert 0 <= told["largest_difference"] <= told["tolerance"]["absolute"]
    assert told["inputs"] == ["items", "lengths"]


def test_a_folder_that_is_there_is_not_written_over(made, exported, capsys):
    before = sorted(path.name for path in exported.iterdir())
    assert main([str(made.folder.path), "--to", str(exported)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert sorted(path.name for path in exported.iterdir()) == before


def test_nothing_is_left_of_an_export_that_does_not_pass(made, tmp_path, monkeypatch, capsys):
    from recbench.core.errors import UserError

    def refuse(*_):
        raise UserError("does not score as the model does")

    monkeypatch.setattr(module, "largest_difference", refuse)
    assert main([str(made.folder.path), "--to", str(tmp_path / "deep" / "out")]) == 2
    assert "does not score" in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.name == "out"] == []


def test_a_model_that_cannot_be_exported_is_status_2(run_config, tmp_path, capsys):
    markov = run(run_config(tmp_path, "model=markov"))
    assert main([str(markov.folder.path), "--to", str(tmp_path / "out")]) == 2
    assert "'markov' cannot be exported" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
