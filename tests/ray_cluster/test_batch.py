"""Lists of all users made by the tasks of a Ray of two nodes: row for row those of this process; and what is answered where something is wrong."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from recbench.cli.recommend.command import main
from recbench.cli.recommend.model_of_run import open_model
from recbench.cli.recommend.on_ray import Question, Source, recommend_on_ray
from recbench.core.errors import UserError
from recbench.experiment.run import run

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def folder(run_config, tmp_path_factory):
    words = ("model=sasrec", "model.hidden_size=16", "training.max_epochs=1", "training.max_length=20")
    return str(run(run_config(tmp_path_factory.mktemp("runs"), *words)).folder.path)


def test_parts_of_two_nodes_are_the_file_of_one_process(address, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "recbench.evaluation.blocks.BLOCK_POSITIONS", 1100
    )  # pieces are whole blocks: let there be several
    spread, here = tmp_path / "spread.parquet", tmp_path / "here.parquet"
    assert main([folder, "--all", "--k", "7", "--to", str(spread), "--on", f"ray={address}", "--parts", "3"]) == 0
    said = capsys.readouterr().out
    monkeypatch.undo()
    assert main([folder, "--all", "--k", "7", "--to", str(here)]) == 0
    assert sorted(path.name for path in spread.iterdir()) == [f"part-0000{n}.parquet" for n in range(3)]
    found, expected = pl.read_parquet(spread), pl.read_parquet(here)
    assert f"{expected.height:,} rows in 3 parts, the best 7 items of {expected['user'].n_unique()} users" in said
    assert_frame_equal(found, expected, rel_tol=1e-5)
    assert main([folder, "--all", "--to", str(spread), "--on", f"ray={address}"]) == 2
    assert "is there already; name a new folder" in capsys.readouterr().err


def test_what_goes_wrong_is_one_line_and_leaves_no_folder(address, folder, tmp_path, capsys):
    to = tmp_path / "lists.parquet"
    gone = Source(tmp_path / "no-run", None, None, "cpu")
    with pytest.raises(UserError, match="no-run"):
        recommend_on_ray(open_model(Path(folder)), gone, Question(7, None, False), to, address)
    assert main([folder, "--all", "--to", str(to), "--on", "ray=127.0.0.1:9"]) == 2
    assert "no Ray cluster answers at 127.0.0.1:9" in capsys.readouterr().err
    assert main([folder, "--all", "--to", str(to), "--on", "spark"]) == 2
    assert "--on spark is not known" in capsys.readouterr().err
    assert main([folder, "--user", "u001", "--on", "ray"]) == 2
    assert "ask for them with --all" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
