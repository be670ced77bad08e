"""A sweep in MLflow: the process that started it sends each job when it ends; what was missed arrives once, with its sweep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from recbench.config.settings import TrackingConfig
from recbench.core.run_folder import RunFolder
from recbench.tracking.mlflow_store import Store
from recbench.tracking.store import PARENT_TAG
from recbench.tracking.sweep import SweepSender
from recbench.tracking.sweep_file import SweepFile, tracking_record
from recbench.tracking.sync import sync

AWAY = "http://127.0.0.1:1"


@pytest.fixture
def config(local, configured):
    return configured(local)


@pytest.fixture
def job(tmp_path):
    """job(number, runs, tracking, *words): leave the record of a job, as ``experiment.sweep`` does; in the sweep's folder."""

    def leave(number, runs, tracking, *words):
        folders = [str(run.path) for run in runs]
        record = {"job": number, "overrides": words, "status": 0, "folders": folders}
        record["tracking"] = tracking_record(tracking) if tracking else None
        (swept(tmp_path) / f"job-{number:05d}.json").write_text(json.dumps(record))

    return leave


def swept(tmp_path):
    folder = tmp_path / "runs" / "sweeps" / "a"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_each_job_is_sent_when_it_ends_and_named_by_what_differs(config, finished, told, job, tmp_path, caplog):
    caplog.set_level("INFO")
    sender = SweepSender(swept(tmp_path), config)
    sender.start(["-m", "model=sasrec", "training.lr=1,2", "data=amazon"], None, watch=False)
    (parent,) = told(config)[1]
    assert (parent.info.status, parent.info.run_name) == ("RUNNING", "sweep training.lr=1,2 model=sasrec data=amazon")
    floor = finished("popularity-1")
    job(0, [floor, finished("sasrec-1")], config, "model=sasrec", "training.lr=1", "data=amazon")
    sender.send_ended()
    assert set(told(config)[0]) == {"popularity-1", "sasrec-1"}
    job(1, [floor, finished("sasrec-2")], config, "model=sasrec", "training.lr=2", "data=amazon")
    sender.finish(failed=False)
    runs, (parent,) = told(config)
    assert {run.data.tags[PARENT_TAG] for run in runs.values()} == {parent.info.run_id}
    names = {key: run.info.run_name for key, run in runs.items()}
    assert names == {
        "popularity-1": "popularity seed 1",
        "sasrec-1": "sasrec (lr=1) seed 1",
        "sasrec-2": "sasrec (lr=2) seed 1",
    }
    assert parent.info.status == "FINISHED"
    assert "viewStateShareKey" in caplog.messages[-1]


def test_a_run_of_an_earlier_sweep_is_compared_in_the_later_one_too(config, finished, told, job, tmp_path):
    run = finished("sasrec-1")
    store = Store(config)
    store.send_job([run], "1" * 32, [])
    store.send_job([run], "2" * 32, [])
    store.send_job([run], "2" * 32, [])
    tags = told(config)[0]["sasrec-1"].data.tags
    assert (tags[PARENT_TAG], tags["recbench.sweeps"]) == ("1" * 32, "11111111 22222222")
    assert [len(store.client.search(store.experiment, f"tags.`recbench.sweeps` LIKE '%{n * 8}%'")) for n in "123"] == [
        1,
        1,
        0,
    ]


def test_jobs_that_are_tracked_elsewhere_or_not_at_all_go_there(config, finished, told, job, tmp_path):
    other = TrackingConfig(uri=config.uri, experiment=f"{config.experiment} b")
    sender = SweepSender(swept(tmp_path), None)
    sender.start(["-m", "tracking.experiment=a,b"], None, watch=False)
    job(0, [finished("sasrec-1")], config)
    job(1, [finished("sasrec-2")], other)
    job(2, [finished("sasrec-3")], None)
    sender.send_ended()
    sender.finish(failed=True)
    assert [set(told(place)[0]) for place in (config, other)] == [{"sasrec-1"}, {"sasrec-2"}]
    assert [[run.info.status for run in told(place)[1]] for place in (config, other)] == [["FAILED"], ["FAILED"]]


def test_jobs_of_other_processes_are_seen_by_a_thread(config, finished, told, job, tmp_path):
    sender = SweepSender(swept(tmp_path), config)
    sender.start(["-m", "seed=1,2"], None, watch=True)
    job(0, [finished("sasrec-1")], config)
    deadline = time.monotonic() + 60
    while not told(config)[0]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    sender.abandon()  # Ctrl+C
    runs, (parent,) = told(config)
    assert (set(runs), parent.info.status) == ({"sasrec-1"}, "FAILED")


def test_a_store_that_is_away_is_said_once_and_what_it_missed_comes_later_as_a_sweep(
    config, finished, told, job, tmp_path, caplog
):
    away = TrackingConfig(uri=AWAY, timeout_seconds=1)
    sender = SweepSender(swept(tmp_path), away)
    sender.start(["-m", "seed=1,2"], None, watch=False)
    for number in (1, 2):
        job(number, [finished(f"sasrec-{number}")], away)
        sender.send_ended()
    sender.finish(failed=False)
    (start, end) = caplog.messages
    assert "the sweep goes on without it" in start
    assert "the sweep is complete on disk, send it later with: recbench tracking sync" in end
    assert set(sync(tmp_path / "runs", config)) == {"sasrec-1", "sasrec-2"}
    runs, (parent,) = told(config)
    assert {run.data.tags[PARENT_TAG] for run in runs.values()} == {parent.info.run_id}
    assert (parent.info.status, parent.info.run_name) == ("FINISHED", "sweep seed=1,2")
    assert list(sync(tmp_path / "runs", config)) == []
    assert len(told(config)[1]) == 1


def test_what_a_killed_process_did_not_send_is_sent_by_sync(config, finished, told, job, tmp_path):
    sender = SweepSender(swept(tmp_path), config)
    sender.start(["-m", "seed=1,2"], None, watch=False)
    job(0, [finished("sasrec-1")], config)
    sender.send_ended()
    job(1, [finished("sasrec-2")], config)  # and nobody is there to send it
    assert list(sync(tmp_path / "runs", config)) == ["sasrec-2"]
    runs, (parent,) = told(config)
    assert {run.data.tags[PARENT_TAG] for run in runs.values()} == {parent.info.run_id}


def test_runs_sent_by_themselves_become_children_of_the_sweep_that_is_made_for_them(
    config, finished, told, job, tmp_path
):
    store, sweep = Store(config), SweepFile(swept(tmp_path))
    sweep.begin(["-m", "seed=1,2"], None, store.place)
    for number in (1, 2):
        run = finished(f"sasrec-{number}")
        store.send(run)
        job(number, [run], config)
    sweep.update(ended=time.time(), failed=True)
    assert list(sweep.settle(store)) == []
    runs, (parent,) = told(config)
    assert (parent.info.status, {run.data.tags[PARENT_TAG] for run in runs.values()}) == (
        "FAILED",
        {parent.info.run_id},
    )


def test_a_password_is_in_no_file_of_a_sweep(job, finished, tmp_path):
    secret = TrackingConfig(uri="http://me:secret@127.0.0.1:1", timeout_seconds=1)
    sender = SweepSender(swept(tmp_path), secret)
    sender.start(["-m", f"tracking.uri={secret.uri}", "seed=1,2"], None, watch=False)
    job(0, [finished("sasrec-1")], secret)
    sender.finish(failed=False)
    for path in swept(tmp_path).iterdir():
        assert "secret" not in path.read_text()


def test_a_sweep_of_the_command_line_arrives_with_its_floor(cli, tracked, config, told, tmp_path):
    finished = cli("-m", *tracked(config), "model=popularity,markov", cwd=tmp_path)
    assert finished.status == 0, finished.err
    runs, (parent,) = told(config)
    assert {key.split("-")[0]: run.data.tags[PARENT_TAG] for key, run in runs.items()} == dict.fromkeys(
        ("popularity", "markov"), parent.info.run_id
    )
    assert (parent.info.status, parent.info.run_name[:29]) == ("FINISHED", "sweep model=popularity,markov")
    assert f"compare runs: mlflow ui --backend-store-uri {config.uri}, then " in finished.err


def test_a_sweep_that_ends_before_its_time_does_not_stand_as_running(cli, tracked, config, told, tmp_path):
    finished = cli("-m", *tracked(config), "model=popularity,markof", cwd=tmp_path)
    assert finished.status == 2
    assert "did you mean 'markov'" in finished.err
    (_, (parent,)) = told(config)
    assert parent.info.status == "FAILED"


def test_a_job_of_a_sweep_opens_no_store(compose, tracked, config, tmp_path, monkeypatch):
    """Of processes that import MLflow, see the slow test below."""
    from recbench.experiment.job import run_job

    monkeypatch.setattr("recbench.tracking.mlflow_store.open_client", lambda config: pytest.fail("opened"))
    runs = run_job(compose(*tracked(config), "model=markov", f"runs_dir={tmp_path}"), in_sweep=True)
    assert [run.config.model.name for run in runs] == ["popularity", "markov"]
    assert not (runs[-1].folder.path / "mlflow.json").exists()


#: Written into sitecustomize.py: notes the process that imports MLflow.
WATCH = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "mlflow":
            with open(os.environ["WHO_IMPORTS"], "a") as file:
                file.write(f"{os.getpid()} ")

sys.meta_path.insert(0, Watch())
"""


@pytest.mark.slow
def test_only_the_process_that_started_a_sweep_imports_mlflow(tracked, config, told, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(WATCH)
    words = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "model=markov", "model.backoff=0.1,0.2"]
    # A fresh interpreter, which alone reads sitecustomize.py: a warm one would read it if it started here, and keep it for all later tests.
    process = subprocess.Popen(
        [sys.executable, "-m", "recbench", "-m", *tracked(config), *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "path"), "WHO_IMPORTS": str(tmp_path / "who")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert (tmp_path / "who").read_text().split() == [str(process.pid)]
    runs, (parent,) = told(config)
    names = {run.info.run_name for run in runs.values()}
    assert names == {"popularity seed 1", "markov (backoff=0.1) seed 1", "markov (backoff=0.2) seed 1"}
    assert parent.info.status == "FINISHED"


@pytest.mark.slow
def test_kill_9_of_the_server_and_of_the_sweep(cli_process, cli, tracked, tmp_path, configured, server_class, told):
    """A real server, killed in a sweep, which is then killed as well; the same command and the server again make all of it good."""
    server = server_class(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    server.start()
    config = TrackingConfig(uri=server.uri, experiment=configured(server.uri).experiment, timeout_seconds=30)
    sizes = ["model=sasrec", "model.hidden_size=16", "model.feedforward_size=16", "training.batch_size=100"]
    command = ["-m", *tracked(config), *sizes, "training.max_epochs=2,3,40", "training.patience=40"]
    process = cli_process(*command, cwd=tmp_path)
    try:
        runs_dir = tmp_path / "runs"
        wait(lambda: len(done(runs_dir)) >= 2 and len(told(config)[0]) >= 2, process)
        server.kill()
        wait(
            lambda: any(len(RunFolder(p.parent).history()) > 5 for p in runs_dir.glob("sasrec-*/history.jsonl")),
            process,
        )
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = {path: os.stat(path).st_mtime_ns for path in runs_dir.glob("*/metrics.json")}
        assert len(before) == 3  # popularity and two jobs
        again = cli(*command, cwd=tmp_path)  # still without a server
        assert again.status == 0, again.err
        assert "3 of 3 jobs finished, 2 of them before" in again.out
        assert "continuing sasrec" in again.err
        assert all(os.stat(path).st_mtime_ns == stamp for path, stamp in before.items())
        server.start()
        assert list(sync(runs_dir, config))
        assert list(sync(runs_dir, config)) == []
        runs, (sweep,) = told(config)
        assert set(runs) == {path.parent.name for path in runs_dir.glob("*/metrics.json")}
        assert len(runs) == 4
        assert {run.data.tags[PARENT_TAG] for run in runs.values()} == {sweep.info.run_id}
        assert {run.info.status for run in [*runs.values(), sweep]} == {"FINISHED"}
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
        server.kill()


def done(runs_dir):
    return [path for path in runs_dir.glob("*/status.json") if RunFolder(path.parent).finished]


def wait(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)
