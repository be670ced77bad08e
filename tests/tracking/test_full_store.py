"""A tracking database whose disk is full: the work is whole, one line says so, the status is 2, and starting again sends what is missing."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys

import pytest

from recbench.core.run_folder import RunFolder
from recbench.tracking.library import Library


@pytest.fixture
def full():
    """Within ``with full():`` nothing can be written of a run, as sqlite says it through MLflow."""

    def refuse(*arguments):
        raise RuntimeError("(sqlalchemy)") from sqlite3.OperationalError("database or disk is full")

    @contextlib.contextmanager
    def during():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Library, "log", refuse)
            yield

    return during


def errors(found):
    return [line for line in found.err.splitlines() if "disk is full" in line]


@pytest.fixture
def config(local, configured):
    return configured(local)


def test_a_run_is_whole_and_starting_again_sends_it(cli, tracked, config, told, full, tmp_path):
    words = ["model=popularity", *tracked(config)]
    with full():
        found = cli(*words, cwd=tmp_path)
    assert found.status == 2
    (said,) = errors(found)
    assert said.startswith("error: not sent to ")
    assert "the same command, or recbench tracking sync, sends what is missing" in said
    (folder,) = (tmp_path / "runs").glob("popularity-*")
    assert RunFolder(folder).finished
    again = cli(*words, cwd=tmp_path)
    assert (again.status, "reused" in again.out) == (0, True)
    assert [run.info.status for run in told(config)[0].values()] == ["FINISHED"]  # and nothing half sent


def test_a_sweep_finishes_all_jobs_and_says_it_once(cli, tracked, config, told, full, tmp_path):
    words = ["-m", "model=popularity,markov", *tracked(config)]
    with full():
        found = cli(*words, cwd=tmp_path)
    assert found.status == 2
    (said,) = errors(found)
    assert "the sweep is complete in its folder" in said
    assert "2 of 2 jobs finished" in found.out
    assert cli(*words, cwd=tmp_path).status == 0
    runs, (parent,) = told(config)
    assert {key.partition("-")[0] for key in runs} == {"popularity", "markov"}
    assert parent.info.status == "FINISHED"


def test_space_that_comes_before_the_end_of_a_sweep_is_used(cli, tracked, config, told, tmp_path, monkeypatch):
    plain, calls = Library.log, []

    def first_refuses(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise sqlite3.OperationalError("database or disk is full")
        return plain(*arguments)

    monkeypatch.setattr(Library, "log", first_refuses)
    found = cli("-m", "model=popularity,markov", *tracked(config), cwd=tmp_path)
    assert (found.status, errors(found)) == (0, [])
    assert len(told(config)[0]) == 2


def test_files_of_tensorboard(cli, tiny, tmp_path, monkeypatch):
    from recbench.tracking import loggers

    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loggers, "_tracker", refuse)
    monkeypatch.setattr(loggers, "check_logger", lambda config: None)
    monkeypatch.setattr("recbench.experiment.job.check_logger", lambda config: None)
    words = [word for word in tiny if word != "tracking=off"]
    found = cli("-m", "model=popularity", "tracking=tensorboard", *words, cwd=tmp_path)
    assert found.status == 2
    assert errors(found)
    assert "popularity" in found.out.split("failed:")[0]  # its row stands in the table all the same


def test_a_study_counts_the_run_as_finished_and_ends_with_2(cli, tiny, tmp_path, monkeypatch):
    from recbench.study import pool

    def start(command, environment, log):
        """A job that finishes its run, and then meets a full tracking database."""
        program = (
            "import json, os, sys; sys.argv[0] = 'recbench'\n"
            "from recbench.cli.main import main\n"
            "assert main(sys.argv[1:]) == 0\n"
            "path = os.environ['RECBENCH_JOB_RECORD']; told = json.load(open(path))\n"
            "json.dump({**told, 'status': 2, 'reason': 'not sent to sqlite:///m.db: the disk is full'}, open(path, 'w'))\n"
            "sys.exit(2)"
        )
        return plain([sys.executable, "-c", program, *command[3:]], environment, log)

    plain = pool.start_process
    monkeypatch.setattr(pool, "start_process", start)
    monkeypatch.setattr(pool, "can_be_forked", lambda hardware: False)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "study.yaml").write_text(
        json.dumps({"question": "q", "rows": {"popularity": ["model=popularity"]}})
    )
    found = cli("study", "one/study.yaml", *tiny, cwd=tmp_path)
    assert found.status == 2, found.err
    assert len([line for line in found.err.splitlines() if line.startswith("error:")]) == 1
    assert "1 of 1 runs finished" in found.err
