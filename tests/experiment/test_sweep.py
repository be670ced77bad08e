"""Sweeps that finish: side by side with shared dependencies, killed and given again, many jobs, one parent in MLflow."""

from __future__ import annotations

import importlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from recbench.core.run_folder import RunFolder
from tests.fixtures.warm import use_warm_processes

STUDENT = [
    "model=slmrec_plain",
    "model.n_layers=1",
    "model.tiny_hidden_size=16",
    "model.tiny_n_heads=2",
    "model.tiny_feedforward_size=16",
    "model.item_table.hidden_size=16",
    "model.item_table.feedforward_size=16",
    "model.item_table.training.max_epochs=2",
    "training.max_epochs=1",
    "training.batch_size=700",
]
SASREC = ["model=sasrec", "model.hidden_size=16", "model.feedforward_size=16", "training.batch_size=200"]
SIDE = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def records_of(root: Path):
    newest = max((root / "runs" / "sweeps").iterdir())
    return [json.loads(path.read_text()) for path in sorted(newest.glob("job-*.json"))]


@pytest.fixture
def start(cli_process):
    """cli_process, whose processes do not outlive the test."""
    started = []

    def run(*words, cwd):
        started.append(cli_process(*words, cwd=cwd))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_for(condition, process, seconds=400):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def test_two_jobs_side_by_side_train_what_both_need_once(cli, tiny, tmp_path, monkeypatch):
    """Both students need one item table. It is the second sweep of this process, as from a notebook: joblib would hand it the processes
    whose working folder is that of the first, and write its runs there."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher.joblib_launcher")
    importlib.import_module("joblib.externals.loky.backend.fork_exec")  # which the patch looks for
    use_warm_processes(monkeypatch)
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    finished = cli("-m", *tiny, "model=popularity,markov", *SIDE, cwd=first)
    assert finished.status == 0, finished.err
    left = sorted(first.glob("runs/*/metrics.json"))
    assert len(left) == 2
    finished = cli("-m", *tiny, *STUDENT, "model.dropout=0.1,0.2", *SIDE, cwd=second)
    assert finished.status == 0, finished.err
    assert "2 of 2 jobs finished" in finished.out
    assert sorted(first.glob("runs/*/metrics.json")) == left
    folders = [set(record["folders"]) for record in records_of(second)]
    assert len(folders[0] ^ folders[1]) == 2  # they differ in the students only
    (table,) = (second / "runs").glob("sasrec-*")
    assert str(table) in folders[0] & folders[1]
    assert (table / "log.txt").read_text().count("training on") == 1
    starts = {RunFolder(Path(record["folders"][-1])).read("status.json")["pid"] for record in records_of(second)}
    assert len(starts) == 2
    assert os.getpid() not in starts


def test_the_same_command_again_says_what_was_there(cli, tiny, tmp_path):
    words = ["-m", *tiny, "model=popularity,markov,itemknn"]
    assert "before" not in cli(*words, cwd=tmp_path).out
    again = cli(*words, cwd=tmp_path)
    assert again.status == 0
    assert "3 of 3 jobs finished, 3 of them before" in again.out
    assert again.err.count("is there already") >= 3


def test_kill_9_of_a_sweep_loses_nothing_that_was_finished(cli, start, tiny, tmp_path):
    """A process that is killed in its second training (10 s); the same command skips the first run and resumes the second."""
    words = ["-m", *tiny, *SASREC, "training.max_epochs=4,25", "training.patience=25"]
    process = start(*words, cwd=tmp_path)

    def second_is_under_way():
        histories = [RunFolder(path.parent).history() for path in tmp_path.glob("runs/sasrec-*/history.jsonl")]
        return any(len(history) > 5 for history in histories)

    wait_for(second_is_under_way, process)
    process.kill()
    process.communicate()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/metrics.json")}
    assert len(before) == 2  # popularity and the first job
    again = cli(*words, cwd=tmp_path)
    assert again.status == 0, again.err
    assert "2 of 2 jobs finished, 1 of them before" in again.out
    assert "continuing sasrec" in again.err
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())


def test_kill_9_of_one_job_leaves_the_others_and_is_made_good(start, tiny, tmp_path):
    """Two worker processes, one of them killed: joblib gives up, and the launcher goes on with what is left."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["-m", *tiny, *SASREC, "training.max_epochs=20", "training.patience=20", "seed=1,2", *SIDE]
    process = start(*words, cwd=tmp_path)

    def victims():
        folders = [RunFolder(path.parent) for path in tmp_path.glob("runs/sasrec-*/history.jsonl")]
        return [f for f in folders if f.state == "running" and 2 < len(f.history()) < 14]

    wait_for(victims, process)
    victim = victims()[0]
    os.kill(int(victim.read("status.json")["pid"]), signal.SIGKILL)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert "a process of the sweep was killed" in err
    assert "2 of 2 jobs finished" in out
    assert "continuing" in (victim.path / "log.txt").read_text()
    assert [epoch["epoch"] for epoch in victim.history()] == list(range(20))


def test_a_job_that_always_gets_its_process_killed_is_named(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from joblib.externals.loky.process_executor import BrokenProcessPool

    from recbench.experiment.launchers import joblib

    tried = []

    def inner(plugin, overrides, first):
        tried.append([list(words) for words in overrides])
        if ["seed=2"] in overrides:
            raise BrokenProcessPool
        return [f"answer {first}"]

    monkeypatch.setattr(joblib, "_launch", inner)
    plugin = SimpleNamespace(config=SimpleNamespace(hydra=SimpleNamespace(sweep=SimpleNamespace(dir=tmp_path))))
    found = joblib.launch(plugin, [["seed=1"], ["seed=2"], ["seed=3"]], 4)
    assert (found[0], found[2]) == ("answer 4", "answer 6")
    assert found[1].return_value is None
    (path,) = tmp_path.glob("job-*.json")
    record = json.loads(path.read_text())
    assert (path.name, record["status"], record["overrides"]) == ("job-00005.json", 1, ["seed=2"])
    assert "killed" in record["reason"]
    assert len(tried) == 5  # twice all of them, then one by one


def test_children_of_the_same_command_stay_under_one_parent(cli, tiny, tmp_path):
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/m.db"
    words = [word for word in tiny if word != "tracking=off"]
    command = ["-m", *words, f"tracking.uri={uri}", "model=popularity,markov"]
    assert cli(*command, cwd=tmp_path).status == 0
    assert cli(*command, cwd=tmp_path).status == 0
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("recbench").experiment_id])
    parents = [run for run in runs if run.info.run_name.startswith("sweep")]
    assert len(parents) == 1
    assert parents[0].info.status == "FINISHED"
    assert {run.data.tags.get("mlflow.parentRunId") for run in runs if run not in parents} == {parents[0].info.run_id}


@pytest.mark.slow
def test_a_sweep_of_200_loses_none(cli, tiny, tmp_path):
    """200 jobs with their MLflow runs: minutes."""
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/m.db"
    words = [word for word in tiny if word != "tracking=off"]
    finished = cli(
        "-m", *words, f"tracking.uri={uri}", "model=markov", "model.backoff=range(0.001,0.2005,0.001)", cwd=tmp_path
    )
    assert finished.status == 0
    assert "200 of 200 jobs finished" in finished.out
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("recbench").experiment_id
    found = client.search_runs([experiment], "tags.`recbench.model` = 'markov'", max_results=1000)
    assert len(found) == 200
    assert {run.info.status for run in found} == {"FINISHED"}
    assert len({run.data.tags["mlflow.parentRunId"] for run in found}) == 1


@pytest.mark.parametrize("launcher", ["joblib", "submitit_slurm"])
def test_what_a_launcher_lacks_is_one_line(cli, tiny, tmp_path, launcher, monkeypatch):
    import sys

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "hydra_plugins.hydra_joblib_launcher.joblib_launcher", None)
    finished = cli("-m", *tiny, "model=popularity", f"hydra/launcher={launcher}", cwd=tmp_path)
    assert finished.status == 2
    last = finished.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "recbench[sweep]" in last if launcher == "joblib" else "no Slurm here" in last
    assert "Traceback" not in finished.err
