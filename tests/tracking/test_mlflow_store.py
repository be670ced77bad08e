"""Runs in MLflow: all of a run, once, under its parent, in a local database and over a server; and nothing is lost when it is away."""

from __future__ import annotations

import json
import time

import pytest
from mlflow.tracking import MlflowClient

from recbench.config.settings import TrackingConfig
from recbench.core.run_folder import RunFolder
from recbench.tracking.library import Library
from recbench.tracking.mlflow_store import ARTIFACTS, Store, deliver
from recbench.tracking.store import PARENT_TAG, Unreachable
from recbench.tracking.sync import unsent

AWAY = TrackingConfig(uri="http://127.0.0.1:1", timeout_seconds=1)


@pytest.fixture(params=["database", "server"])
def config(request, configured):
    found = request.getfixturevalue("local" if request.param == "database" else "server")
    return configured(found if isinstance(found, str) else found.uri)


def test_a_run_arrives_whole(config, finished, told, tmp_path, capsys):
    folder = finished(epochs=3, seed=2, n_layers=2)
    assert deliver(config, [folder])
    assert capsys.readouterr().out == ""  # MLflow prints addresses of its own
    ((run,), sweeps) = told(config)[0].values(), told(config)[1]
    assert (run.info.run_name, run.info.status, sweeps) == ("sasrec seed 2", "FINISHED", [])
    status = folder.read("status.json")
    assert (run.info.start_time, run.info.end_time) == tuple(
        int(1000 * status[name]) for name in ("started", "updated")
    )
    assert run.data.params == {
        "seed": "2",
        "model": "sasrec",
        "model.n_layers": "2",
        "data": "synthetic",
        "data.n_users": "160",
        "training.max_epochs": "3",
        "training.lr": "0.001",
    }
    assert (run.data.metrics["test/ndcg_at_10"], run.data.metrics["cost/train_seconds"]) == (0.25, 2.5)
    assert str(run.data.metrics["test/odd"]) == "nan"
    assert run.data.metrics["test/endless"] > 1e300
    assert "cost/users_per_second" not in run.data.metrics
    tags = run.data.tags
    assert (tags["recbench.protocol"], tags["recbench.split_hash"], tags["version.torch"]) == (
        "leave_one_out",
        "5911",
        "2",
    )
    assert (tags["git.commit"], tags["audit.cold_targets"], tags["recbench.key"]) == ("c0ffee", "0.5", folder.key)
    client = MlflowClient(tracking_uri=config.uri)
    points = client.get_metric_history(run.info.run_id, "epoch/train/loss")
    assert sorted((p.step, p.value) for p in points) == [(n, 1 / (n + 1)) for n in range(3)]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == set(ARTIFACTS)
    copy = client.download_artifacts(run.info.run_id, "ranks.parquet", str(tmp_path))
    with open(copy, "rb") as file:
        assert file.read() == folder.ranks.read_bytes()
    assert json.loads((folder.path / "mlflow.json").read_text()) == {
        f"{config.uri}#{config.experiment}": run.info.run_id
    }


def test_an_attempt_that_ended_in_its_middle_leaves_nothing(config, finished, told, monkeypatch, caplog):
    """The store goes away after the run was made there: the next attempt has it once and whole."""
    folder = finished()

    def breaks(*arguments):
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(Library, "upload", breaks)
        assert deliver(config, [folder]) is None
    assert "recbench tracking sync" in caplog.text
    assert [f.key for f in unsent(folder.path.parent, config)] == [folder.key]
    assert deliver(config, [folder])
    ((run,), _) = told(config)[0].values(), None
    assert run.info.status == "FINISHED"
    points = MlflowClient(config.uri).get_metric_history(run.info.run_id, "epoch/train/loss")
    assert len(points) == 3


def test_a_run_whose_answer_was_lost_is_not_sent_twice(config, finished, told):
    """The store had it all, and the process was killed before it could note that."""
    folder = finished()
    assert deliver(config, [folder])
    (folder.path / "mlflow.json").unlink()
    assert deliver(config, [folder])
    assert len(told(config)[0]) == 1


def test_a_deleted_experiment_is_restored_and_said(config, finished, told, caplog):
    deliver(config, [finished("markov-1")])
    client = MlflowClient(config.uri)
    client.delete_experiment(client.get_experiment_by_name(config.experiment).experiment_id)
    deliver(config, [finished("sasrec-1")])
    assert caplog.messages == [
        f"the MLflow experiment '{config.experiment}' was deleted; it is restored, with its runs"
    ]
    assert client.get_experiment_by_name(config.experiment).lifecycle_stage == "active"
    assert set(told(config)[0]) == {"markov-1", "sasrec-1"}


@pytest.fixture
def here(local, configured):
    return configured(local)


def test_what_a_run_stands_on_are_its_children_and_sending_again_sends_nothing(here, finished, told):
    folders = [finished(key) for key in ("popularity-1", "teacher-1", "slmrec-1")]
    assert deliver(here, folders)
    first, _ = told(here)
    parent = first["slmrec-1"]
    assert PARENT_TAG not in parent.data.tags
    assert {first[key].data.tags[PARENT_TAG] for key in ("popularity-1", "teacher-1")} == {parent.info.run_id}
    assert deliver(here, folders)
    assert {key: run.info.run_id for key, run in told(here)[0].items()} == {
        key: run.info.run_id for key, run in first.items()
    }
    assert unsent(folders[0].path.parent, here) == []


def test_a_run_deleted_in_mlflow_is_sent_anew(here, finished, told):
    folder = finished()
    deliver(here, [folder])
    first = told(here)[0][folder.key].info.run_id
    MlflowClient(here.uri).delete_run(first)
    deliver(here, [folder])
    assert told(here)[0][folder.key].info.run_id != first


def test_another_store_or_experiment_has_not_heard_of_it(here, finished):
    folder = finished()
    deliver(here, [folder])
    other = TrackingConfig(uri=here.uri, experiment="another")
    assert [waiting.key for waiting in unsent(folder.path.parent, other)] == [folder.key]


def test_only_finished_runs_wait_to_be_sent(here, tmp_path):
    for state in ("finished", "failed", "running", "interrupted"):
        folder = RunFolder(tmp_path / state)
        folder.path.mkdir()
        folder.set_state(state)
    assert [folder.key for folder in unsent(tmp_path, here)] == ["finished"]


def test_a_store_that_is_away_is_an_unreachable_one():
    started = time.monotonic()
    with pytest.raises(Unreachable, match=AWAY.uri):
        Store(AWAY)
    assert time.monotonic() - started < 15


def test_a_mistake_of_ours_is_said_and_fails_no_run(here, finished, caplog):
    folder = finished()
    (folder.path / "status.json").unlink()
    assert deliver(here, [folder]) is None
    assert "through a mistake of recbench; the run is complete on disk" in caplog.text
    assert "KeyError" in caplog.text


def test_a_long_training_is_sent_in_a_few_calls(server, configured, finished, monkeypatch):
    """MLflow's client cuts what is too long for one call; a call an epoch would take minutes."""
    from mlflow.utils import rest_utils

    config, calls = configured(server.uri), []
    store, ask = Store(config), rest_utils._get_http_response_with_retries
    monkeypatch.setattr(rest_utils, "_get_http_response_with_retries", lambda *a, **k: calls.append(a) or ask(*a, **k))
    store.send(finished("a-300", epochs=300))
    assert len(calls) <= 30
    (run,) = store.client.find(store.experiment, "a-300")
    assert len(MlflowClient(config.uri).get_metric_history(run.run_id, "epoch/train/loss")) == 300


def test_a_name_with_a_quote_is_found(here):
    store = Store(here)
    made = store.client.create(store.experiment, 0, {"mlflow.runName": "a", "recbench.key": "report it's"})
    assert [entry.run_id for entry in store.client.find(store.experiment, "report it's")] == [made.run_id]
