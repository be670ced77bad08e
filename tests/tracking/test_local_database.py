"""A new database is whole or not there, whoever comes at the same time or dies; one that cannot be written is known in seconds."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sqlite3
import time

import pytest
from mlflow.tracking import MlflowClient

from recbench.config.settings import TrackingConfig
from recbench.tracking.client import reachable
from recbench.tracking.local_database import prepare
from recbench.tracking.mlflow_store import Store, deliver
from recbench.tracking.store import Unreachable

#: Children of this process, which has MLflow imported.
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def config(tmp_path):
    return TrackingConfig(uri=f"sqlite:///{tmp_path}/new/mlflow.db", timeout_seconds=1)


def names(folder):
    return {path.name for path in folder.iterdir()}


def send_one(config, folder):
    Store(config).send(folder)


def test_four_processes_at_once_make_one_database(config, finished, tables_of_mlflow, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [finished(f"sasrec-{number}") for number in range(4)]
    processes = [FORK.Process(target=send_one, args=(config, folder)) for folder in folders]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    client = MlflowClient(config.uri)
    found = client.search_runs([client.get_experiment_by_name(config.experiment).experiment_id])
    assert {run.data.tags["recbench.key"] for run in found} == {folder.key for folder in folders}
    assert names(tmp_path / "new") == {"mlflow.db", ".mlflow.db.lock"}


def test_kill_9_while_it_is_made_leaves_nothing_broken(config, finished, tables_of_mlflow, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    process = FORK.Process(target=Store, args=(config,))
    process.start()
    half = tmp_path / "new" / ".mlflow.db.new"
    deadline = time.monotonic() + 60
    while not (half.exists() and half.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert half.exists()
    assert not (tmp_path / "new" / "mlflow.db").exists()
    tables_of_mlflow.undo()
    assert deliver(config, [finished()])
    assert names(tmp_path / "new") == {"mlflow.db", ".mlflow.db.lock"}


def test_what_a_killed_process_left_is_not_taken_for_a_database(empty_database, tmp_path):
    path = tmp_path / "mlflow.db"
    for ending in ("", "-journal"):
        path.with_name(f".mlflow.db.new{ending}").write_text("half of a database")
    path.touch()  # what an earlier opening left
    made = []
    prepare(path, lambda uri: made.append(shutil.copy(empty_database, uri.removeprefix("sqlite:///"))), 1)
    assert path.read_bytes() == empty_database.read_bytes()
    assert names(tmp_path) == {"mlflow.db", ".mlflow.db.lock"}
    prepare(path, lambda uri: made.append(uri), 1)
    assert len(made) == 1  # it is there


def test_a_disk_that_is_full_while_it_is_made_leaves_nothing(tmp_path):
    def runs_out(uri):
        (tmp_path / ".mlflow.db.new").write_text("half")
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(Unreachable, match="disk is full"):
        prepare(tmp_path / "mlflow.db", runs_out, 1)
    assert names(tmp_path) == {".mlflow.db.lock"}


def unwritable(kind, path, database):
    """Make a database that cannot be written; returns (what keeps it so, what is said)."""
    if kind == "no database":
        path.write_text("a text, and not a short one " * 10)
        return None, "file is not a database"
    if kind == "folder":
        path.mkdir()
        return None, "unable to open database file"
    shutil.copy(database, path)
    if kind == "locked":
        holder = sqlite3.connect(path)
        holder.execute("BEGIN EXCLUSIVE")
        return holder, "database is locked"
    path.chmod(0o444)
    return None, "readonly database"


@pytest.mark.parametrize("kind", ["no database", "folder", "locked", "read-only"])
def test_one_that_cannot_be_written_is_said_in_seconds_and_fails_nothing(
    kind, tmp_path, empty_database, finished, caplog
):
    if kind == "read-only" and os.geteuid() == 0:
        pytest.skip("root writes what is read-only")
    path = tmp_path / "mlflow.db"
    held, reason = unwritable(kind, path, empty_database)
    started = time.monotonic()
    assert deliver(TrackingConfig(uri=f"sqlite:///{path}", timeout_seconds=1), [finished()]) is None
    assert time.monotonic() - started < 10
    (warning,) = caplog.messages
    assert reason in warning
    assert "the run is complete on disk" in warning
    if held is not None:
        held.close()


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreachable, match="Not a directory"):
        Store(TrackingConfig(uri=f"sqlite:///{tmp_path}/file/below/mlflow.db"))


def test_a_database_server_that_is_away_is_said_in_seconds_without_its_password():
    pytest.importorskip("psycopg", reason="needs the extra 'server'")
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"//\*\*\*@127") as error:
        Store(TrackingConfig(uri="postgresql+psycopg://me:secret@127.0.0.1:1/mlflow", timeout_seconds=2))
    assert time.monotonic() - started < 15
    assert "secret" not in str(error.value)


def test_the_environment_is_left_as_it_was(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with reachable(TrackingConfig()):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
