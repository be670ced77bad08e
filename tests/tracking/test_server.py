"""A server that goes away: nothing that was finished is lost, and what it missed arrives once, with its sweep."""

from __future__ import annotations

import os
import signal
import time

import pytest
from mlflow.tracking import MlflowClient

from recbench.core.run_folder import RunFolder
from recbench.tracking.client import PARENT_TAG
from recbench.tracking.sync import SweepFile, sync, unsent

AWAY = "http://127.0.0.1:1"
SASREC = ["model=sasrec", "model.hidden_size=16", "model.feedforward_size=16", "training.batch_size=100"]


def told(uri, name):
    """(runs by key, sweeps) of an experiment."""
    library = MlflowClient(tracking_uri=uri)
    found = library.search_runs([library.get_experiment_by_name(name).experiment_id], max_results=1000)
    sweeps = [run for run in found if "recbench.sweep" in run.data.tags]
    runs = [run for run in found if run not in sweeps]
    by_key = {run.data.tags["recbench.key"]: run for run in runs}
    assert len(by_key) == len(runs)  # none twice
    return by_key, sweeps


def test_a_sweep_without_its_server_arrives_later_as_a_sweep(cli, tiny, local, configured, tmp_path):
    words = [word for word in tiny if word != "tracking=off"]
    name = configured(local).experiment
    away = [f"tracking.uri={AWAY}", f"tracking.experiment={name}", "tracking.timeout_seconds=1"]
    finished = cli("-m", *words, "model=popularity,markov", *away, cwd=tmp_path)
    assert finished.status == 0
    assert "the sweep goes on without it" in finished.err
    assert "recbench tracking sync" in finished.err
    keys = {path.parent.name for path in tmp_path.glob("runs/*/metrics.json")}
    assert set(sync(tmp_path / "runs", configured(local))) == keys
    runs, (sweep,) = told(local, name)
    assert set(runs) == keys
    assert {run.data.tags[PARENT_TAG] for run in runs.values()} == {sweep.info.run_id}
    assert (sweep.info.status, sweep.info.run_name) == ("FINISHED", "sweep model=popularity,markov")
    assert list(sync(tmp_path / "runs", configured(local))) == []
    assert (told(local, name)[0].keys(), len(told(local, name)[1])) == (runs.keys(), 1)


def test_a_store_that_was_away_at_the_start_only_hears_of_the_sweep_at_its_end(local, configured, finished, tmp_path):
    """The jobs were sent, each by itself; the sweep is made for them, and is theirs."""
    from recbench.experiment.sweep import write_json
    from recbench.tracking.mlflow_store import Store

    store = Store(configured(local))
    folder = tmp_path / "runs" / "sweeps" / "a"
    one, two = finished("a-1"), finished("a-2")
    folder.mkdir(parents=True)
    sweep = SweepFile(folder)
    sweep.begin(["-m", "seed=1,2"], None, store.place)
    for number, run in enumerate((one, two)):
        store.send(run)
        write_json(folder / f"job-{number:05d}.json", {"job": number, "status": 0, "folders": [str(run.path)]})
    sweep.update(ended=time.time(), failed=True)
    assert list(sweep.settle(store)) == []
    runs, (parent,) = told(local, store.config.experiment)
    assert (parent.info.status, parent.info.run_name) == ("FAILED", "sweep seed=1,2")
    assert {run.data.tags[PARENT_TAG] for run in runs.values()} == {parent.info.run_id}
    assert "searchFilter" in sweep.comparison(store)


@pytest.mark.slow
def test_kill_9_of_the_server_and_of_the_sweep(cli_process, cli, tiny, tmp_path, configured, server_class):
    """A real server, killed in a sweep, which is then killed as well; the same command and the server again make all of it good."""
    server = server_class(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    server.start()
    config = configured(server.uri)
    words = [word for word in tiny if word != "tracking=off"]
    tracking = [f"tracking.uri={server.uri}", f"tracking.experiment={config.experiment}", "tracking.timeout_seconds=5"]
    command = ["-m", *words, *SASREC, *tracking, "training.max_epochs=2,3,40", "training.patience=40"]
    process = cli_process(*command, cwd=tmp_path)
    try:
        runs_dir = tmp_path / "runs"
        wait(lambda: len(done(runs_dir)) >= 2 and len(told(server.uri, config.experiment)[0]) >= 2, process)
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
        assert unsent(runs_dir, config)
        server.start()
        late = list(sync(runs_dir, config))
        assert late
        assert unsent(runs_dir, config) == list(sync(runs_dir, config)) == []
        runs, (sweep,) = told(server.uri, config.experiment)
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
