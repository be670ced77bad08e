"""Runs in MLflow: all of a run, once, under its parent; and nothing is lost when the server is away."""

from __future__ import annotations

import json
import os
import time

import pytest
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from recbench.cli.tracking import main
from recbench.config.settings import TrackingConfig
from recbench.core.run_folder import RunFolder
from recbench.experiment.run import run
from recbench.tracking.client import PARENT_TAG
from recbench.tracking.describe import metric_name, parameters_of
from recbench.tracking.mlflow_store import Store, Unreachable, deliver
from recbench.tracking.sync import unsent

AWAY = "http://127.0.0.1:1"
STUDENT = [
    "model=slmrec",
    "model.n_layers=2",
    "model.tiny_hidden_size=16",
    "model.tiny_n_heads=2",
    "model.tiny_feedforward_size=16",
    "model.item_table.hidden_size=16",
    "distillation.teacher.n_layers=2",
    "distillation.teacher.lora_rank=4",
    "distillation.n_blocks=2",
    "distillation.force=true",
    "training.max_epochs=2",
    "training.batch_size=256",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an MLflow store in sqlite; its tables are made once, which takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # artifacts lie beside the database
        uri = f"sqlite:///{folder}/mlflow.db"
        MlflowClient(tracking_uri=uri).search_experiments()
        yield folder, uri


@pytest.fixture
def store(place, request):
    """An experiment of its own in the shared store: (config, client)."""
    config = TrackingConfig(uri=place[1], experiment=request.node.name)
    return config, MlflowClient(tracking_uri=place[1])


@pytest.fixture(scope="module")
def student(run_config, tmp_path_factory):
    return run(run_config(tmp_path_factory.mktemp("runs"), *STUDENT))


def sent_runs(store):
    config, client = store
    experiment = client.get_experiment_by_name(config.experiment)
    found = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ACTIVE_ONLY, max_results=100)
    return {item.data.tags.get("recbench.key", item.info.run_name): item for item in found}


def forget(made):
    """Copies keep no memory of earlier tests."""
    for part in (made, *made.dependencies.values()):
        (part.folder.path / "mlflow.json").unlink(missing_ok=True)


@pytest.fixture
def fresh(student):
    forget(student)
    return student


def test_a_run_arrives_whole(store, fresh):
    assert deliver(store[0], [fresh.folder])
    (item,) = sent_runs(store).values()
    assert item.info.run_name == fresh.folder.key
    assert item.info.status == "FINISHED"
    status = fresh.folder.read("status.json")
    assert item.info.start_time == int(1000 * status["started"])
    assert item.info.end_time == int(1000 * status["updated"])
    # parameters, named as on the command line
    assert item.data.params["model"] == "slmrec"
    assert item.data.params["model.n_layers"] == "2"
    assert item.data.params["training.max_epochs"] == "2"
    assert item.data.params["data.n_users"] == "160"
    assert item.data.params["distillation.teacher.n_layers"] == "2"
    assert item.data.params["seed"] == "1"
    # final figures
    for name, value in fresh.metrics.items():
        if isinstance(value, float | int):
            assert item.data.metrics[metric_name(name)] == pytest.approx(value)
    assert item.data.metrics["test/ndcg_at_10"] == fresh.metrics["test/ndcg@10"]
    assert float(item.data.tags["audit.cold_targets"]) == pytest.approx(fresh.metrics["audit"]["cold_targets"])
    # tags
    tags = item.data.tags
    source = fresh.folder.read("provenance.json")
    assert tags["recbench.protocol"] == "leave_one_out-full-mask-v1"
    assert tags["recbench.data_fingerprint"] == source["data_fingerprint"]
    assert tags["version.torch"] == source["versions"]["torch"]
    assert tags["recbench.hardware"] == source["processor"]
    if source["commit"] is not None:
        assert (tags["git.commit"], tags["git.dirty"]) == (source["commit"], str(source["dirty"]))


def test_every_epoch_is_a_point_of_a_curve(store, fresh):
    deliver(store[0], [fresh.folder])
    (item,) = sent_runs(store).values()
    history = fresh.folder.history()
    for name in ("train/loss", "train/cosine", "train/norm", "train/supervision", "validation/ndcg@10"):
        points = store[1].get_metric_history(item.info.run_id, metric_name(f"epoch/{name}"))
        assert [(p.step, p.value) for p in sorted(points, key=lambda p: p.step)] == [
            (epoch["epoch"], epoch[name]) for epoch in history
        ]


def test_the_files_of_a_run_are_its_artifacts(store, fresh, tmp_path):
    deliver(store[0], [fresh.folder])
    (item,) = sent_runs(store).values()
    names = {entry.path for entry in store[1].list_artifacts(item.info.run_id)}
    assert names == {
        "config.yaml",
        "provenance.json",
        "status.json",
        "metrics.json",
        "history.jsonl",
        "ranks.parquet",
        "log.txt",
    }
    copy = store[1].download_artifacts(item.info.run_id, "ranks.parquet", str(tmp_path))
    with open(copy, "rb") as file:
        assert file.read() == fresh.folder.ranks.read_bytes()


def test_what_a_run_stands_on_are_its_children(store, fresh):
    parts = list(fresh.dependencies.values())
    assert deliver(store[0], [*(part.folder for part in parts), fresh.folder])
    found = sent_runs(store)
    assert set(found) == {fresh.folder.key, *(part.folder.key for part in parts)}
    parent = found[fresh.folder.key]
    assert PARENT_TAG not in parent.data.tags
    for part in parts:
        assert found[part.folder.key].data.tags[PARENT_TAG] == parent.info.run_id


def test_sending_again_sends_nothing(store, fresh):
    folders = [*(part.folder for part in fresh.dependencies.values()), fresh.folder]
    deliver(store[0], folders)
    before = {key: item.info.run_id for key, item in sent_runs(store).items()}
    deliver(store[0], folders)
    assert {key: item.info.run_id for key, item in sent_runs(store).items()} == before
    assert unsent(fresh.folder.path.parent, store[0]) == []


def test_a_run_deleted_in_mlflow_is_sent_anew(store, fresh):
    deliver(store[0], [fresh.folder])
    (first,) = sent_runs(store).values()
    store[1].delete_run(first.info.run_id)
    deliver(store[0], [fresh.folder])
    (second,) = sent_runs(store).values()
    assert second.info.run_id != first.info.run_id


def test_another_store_or_experiment_has_not_heard_of_it(store, fresh):
    deliver(store[0], [fresh.folder])
    other = TrackingConfig(uri=store[0].uri, experiment="another")
    waiting = {folder.key for folder in unsent(fresh.folder.path.parent, other)}
    assert fresh.folder.key in waiting


def test_only_finished_runs_wait_to_be_sent(store, tmp_path):
    for state in ("finished", "failed", "running", "interrupted"):
        folder = RunFolder(tmp_path / state)
        folder.path.mkdir()
        folder.set_state(state)
    assert [folder.key for folder in unsent(tmp_path, store[0])] == ["finished"]


def test_jobs_and_dependencies_of_a_sweep_are_children_of_its_run(cli, tiny, store, tmp_path):
    words = [word for word in tiny if word != "tracking=off"]
    tracking = [f"tracking.uri={store[0].uri}", f"tracking.experiment={store[0].experiment}"]
    finished = cli("-m", *words, "model=popularity,markov", *tracking, cwd=tmp_path)
    assert finished.status == 0, finished.err
    assert f"compare runs: mlflow ui --backend-store-uri {store[0].uri}" in finished.err
    found = sent_runs(store)
    (parent,) = [item for item in found.values() if "recbench.sweep" in item.data.tags]
    assert parent.info.status == "FINISHED"
    assert "model=popularity,markov" in parent.data.tags["recbench.sweep"]
    children = {key.split("-")[0]: item.data.tags[PARENT_TAG] for key, item in found.items() if item is not parent}
    assert children == {"popularity": parent.info.run_id, "markov": parent.info.run_id}


def test_a_sweep_with_a_failed_job_is_marked_as_failed(cli, tiny, store, tmp_path):
    words = [word for word in tiny if word != "tracking=off"]
    tracking = [f"tracking.uri={store[0].uri}", f"tracking.experiment={store[0].experiment}"]
    finished = cli("-m", *words, "model=markov", "model.backoff=0.1,7", *tracking, cwd=tmp_path)
    assert finished.status == 2
    (parent,) = [item for item in sent_runs(store).values() if "recbench.sweep" in item.data.tags]
    assert parent.info.status == "FAILED"


def test_a_sweep_that_ends_before_its_time_does_not_stand_as_running(cli, tiny, store, tmp_path):
    words = [word for word in tiny if word != "tracking=off"]
    tracking = [f"tracking.uri={store[0].uri}", f"tracking.experiment={store[0].experiment}"]
    finished = cli("-m", *words, "model=popularity,markof", *tracking, cwd=tmp_path)
    assert finished.status == 2
    assert "did you mean 'markov'" in finished.err
    (parent,) = sent_runs(store).values()
    assert parent.info.status == "FAILED"


def test_with_the_server_away_a_sweep_finishes(cli, tiny, tmp_path):
    words = [word for word in tiny if word != "tracking=off"]
    finished = cli(
        "-m", *words, "model=popularity,markov", f"tracking.uri={AWAY}", "tracking.timeout_seconds=1", cwd=tmp_path
    )
    assert finished.status == 0
    assert "2 of 2 jobs finished" in finished.out
    assert "the sweep goes on without it" in finished.err
    assert "Traceback" not in finished.err


def test_with_the_server_away_a_run_finishes_and_is_sent_later(cli, cli_process, tiny, place, store, tmp_path):
    words = [word for word in tiny if word != "tracking=off"]
    started = time.monotonic()
    finished = cli(*words, "model=markov", f"tracking.uri={AWAY}", "tracking.timeout_seconds=1", cwd=tmp_path)
    assert finished.status == 0
    assert time.monotonic() - started < 30
    assert "MLflow is not reachable" in finished.err
    assert "recbench tracking sync" in finished.err
    assert "Traceback" not in finished.err
    assert "markov" in finished.out
    folders = [RunFolder(path) for path in sorted((tmp_path / "runs").glob("*-*"))]
    assert [folder.state for folder in folders] == ["finished", "finished"]
    # Still away: said in one line, and nothing is marked as sent.
    away = TrackingConfig(uri=AWAY, timeout_seconds=1)
    assert len(unsent(tmp_path / "runs", away)) == 2
    # The same runs go to whichever store is there.
    words = ["sync", "--uri", store[0].uri, "--experiment", store[0].experiment]
    process = cli_process("tracking", *words, cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert [line for line in out.splitlines() if line.startswith("sent ")] == [
        f"sent {folder.key}" for folder in folders
    ]
    assert "2 sent, nothing left to send" in out
    assert set(sent_runs(store)) == {folder.key for folder in folders}


def test_sync_says_when_the_server_is_still_away(student, monkeypatch, capsys):
    monkeypatch.setattr(
        "recbench.cli.tracking.TrackingConfig", lambda **keys: TrackingConfig(**{**keys, "timeout_seconds": 1})
    )
    assert main(["sync", "--runs-dir", str(student.folder.path.parent), "--uri", AWAY]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: MLflow is not reachable: {AWAY}")
    assert len(error.splitlines()) == 1


def test_sync_sends_what_is_left_and_nothing_twice(store, fresh, capsys):
    words = [
        "sync",
        "--runs-dir",
        str(fresh.folder.path.parent),
        "--uri",
        store[0].uri,
        "--experiment",
        store[0].experiment,
    ]
    assert main(words) == 0
    assert "3 sent" in capsys.readouterr().out
    assert main(words) == 0
    assert "0 sent" in capsys.readouterr().out
    found = sent_runs(store)
    assert len(found) == 3
    # A run sent late keeps its family.
    for part in fresh.dependencies.values():
        assert found[part.folder.key].data.tags[PARENT_TAG] == found[fresh.folder.key].info.run_id


def test_sync_without_runs_is_told(tmp_path, capsys):
    assert main(["sync", "--runs-dir", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_a_store_that_is_away_is_an_unreachable_one():
    started = time.monotonic()
    with pytest.raises(Unreachable, match=AWAY):
        Store(TrackingConfig(uri=AWAY, timeout_seconds=1))
    assert time.monotonic() - started < 15


def test_a_mistake_of_ours_is_not_taken_for_an_absent_server(store, fresh):
    (fresh.folder.path / "status.json").rename(fresh.folder.path / "hidden")
    try:
        with pytest.raises(KeyError):
            deliver(store[0], [fresh.folder])
    finally:
        (fresh.folder.path / "hidden").rename(fresh.folder.path / "status.json")


def test_the_environment_is_left_as_it_was(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    Store(store[0])
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_parameters_are_named_as_on_the_command_line():
    config = {
        "seed": 1,
        "model": {"name": "slmrec", "item_table": {"model": "sasrec"}},
        "evaluation": {"cutoffs": [1, 10]},
    }
    assert dict(parameters_of(config)) == {
        "seed": "1",
        "model": "slmrec",
        "model.item_table.model": "sasrec",
        "evaluation.cutoffs": "[1, 10]",
    }


def test_where_a_run_was_sent_stands_in_its_folder(store, fresh):
    deliver(store[0], [fresh.folder])
    (item,) = sent_runs(store).values()
    stored = json.loads((fresh.folder.path / "mlflow.json").read_text())
    assert stored[f"{store[0].uri}#{store[0].experiment}"] == item.info.run_id
