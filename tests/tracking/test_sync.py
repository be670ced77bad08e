"""``recbench tracking sync``: finished runs that MLflow has not heard of, each once, with what they stand on."""

from __future__ import annotations

import time

import pytest

from recbench.cli.tracking import main
from recbench.config.settings import TrackingConfig
from recbench.core.run_folder import RunFolder
from recbench.tracking.store import PARENT_TAG
from recbench.tracking.sync import unsent

AWAY = "http://127.0.0.1:1"


@pytest.fixture
def config(local, configured):
    return configured(local)


def words(config, runs_dir):
    return ["sync", "--runs-dir", str(runs_dir), "--uri", config.uri, "--experiment", config.experiment]


def test_sync_sends_what_is_left_and_nothing_twice(config, finished, told, capsys, tmp_path):
    finished("table-1")
    finished("teacher-1", needs=("table-1",))
    finished("slmrec-1", needs=("table-1", "teacher-1"))
    assert main(words(config, tmp_path / "runs")) == 0
    assert "3 sent, nothing left to send" in capsys.readouterr().out
    assert main(words(config, tmp_path / "runs")) == 0
    assert "0 sent" in capsys.readouterr().out
    runs, _ = told(config)
    # A run sent late keeps its family.
    assert {runs[key].data.tags[PARENT_TAG] for key in ("table-1", "teacher-1")} == {runs["slmrec-1"].info.run_id}


def test_with_the_server_away_a_run_finishes_and_is_sent_later(cli, tracked, config, told, tmp_path, capsys):
    away = TrackingConfig(uri=AWAY, timeout_seconds=1)
    started = time.monotonic()
    finished = cli(*tracked(away), "model=markov", cwd=tmp_path)
    assert (finished.status, time.monotonic() - started < 60) == (0, True)
    assert "MLflow is not reachable" in finished.err
    assert "recbench tracking sync" in finished.err
    assert "Traceback" not in finished.err
    folders = [RunFolder(path) for path in sorted((tmp_path / "runs").glob("*-*"))]
    assert [folder.state for folder in folders] == ["finished", "finished"]
    assert len(unsent(tmp_path / "runs", away)) == 2
    # The same runs go to whichever store is there.
    assert main(words(config, tmp_path / "runs")) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("sent ")] == [f"sent {f.key}" for f in folders]
    assert set(told(config)[0]) == {folder.key for folder in folders}


def test_sync_says_when_the_server_is_still_away(finished, monkeypatch, capsys, tmp_path):
    finished()
    monkeypatch.setattr(
        "recbench.cli.tracking.TrackingConfig", lambda **keys: TrackingConfig(**{**keys, "timeout_seconds": 1})
    )
    assert main(["sync", "--runs-dir", str(tmp_path / "runs"), "--uri", AWAY]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: MLflow is not reachable: {AWAY}")
    assert len(error.splitlines()) == 1


def test_sync_without_runs_is_told(tmp_path, capsys):
    assert main(["sync", "--runs-dir", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in capsys.readouterr().err
