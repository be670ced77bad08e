"""The light ways into a store do what MLflow's own library does, in few calls, and leave nothing half or twice."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys

import pytest
from mlflow.tracking import MlflowClient
from recbench.tracking.rest import Rest
from recbench.tracking.sqlite import KNOWN, Sqlite

from recbench.tracking import client as clients
from recbench.tracking.client import KEY_TAG, Library, Point, batches, open_client
from recbench.tracking.mlflow_store import Store, deliver
from recbench.tracking.sync import unsent


@pytest.fixture(params=["sqlite", "rest"])
def uri(request):
    return request.getfixturevalue("local") if request.param == "sqlite" else request.getfixturevalue("server").uri


def seen(uri, run_id):
    """All that MLflow has of a run, but for what is its own."""
    library = MlflowClient(tracking_uri=uri)
    run = library.get_run(run_id)
    info = {
        name: getattr(run.info, name) for name in ("status", "start_time", "end_time", "lifecycle_stage", "user_id")
    }
    history = {
        name: sorted((p.step, p.timestamp, str(p.value)) for p in library.get_metric_history(run_id, name))
        for name in run.data.metrics
    }
    files = {file.path: file.file_size for file in library.list_artifacts(run_id)}
    values = {name: str(value) for name, value in run.data.metrics.items()}
    return info, run.info.run_name, dict(run.data.tags), dict(run.data.params), values, history, files


def test_a_run_sent_lightly_is_the_same_as_one_sent_by_the_library(uri, configured, finished, monkeypatch):
    folder, config = finished(), configured(uri)
    assert type(open_client(uri)) in (Sqlite, Rest)
    light = Store(config).send(folder)
    monkeypatch.setattr("recbench.tracking.mlflow_store.open_client", Library)
    store = Store(config)
    entry = store._send_new(folder, *(int(1000 * folder.read("status.json")[name]) for name in ("started", "updated")))
    library = seen(uri, entry.run_id)
    # Who sent it is the one thing that the library leaves to the tags.
    library[0]["user_id"] = seen(uri, light)[0]["user_id"]
    assert seen(uri, light) == library
    assert library[4]["cost/odd"] == "nan"
    assert set(library[6]) == {"config.yaml", "provenance.json", "status.json", "metrics.json", "history.jsonl"}


def test_what_one_client_wrote_the_other_reads(uri, configured, finished):
    config = configured(uri)
    light, library = open_client(uri), Library(uri)
    experiment = light.experiment(config.experiment)
    assert (library.experiment(config.experiment), light.experiment(config.experiment)) == (experiment, experiment)
    made = light.create(experiment, 5, {clients.NAME_TAG: "a", KEY_TAG: "k"})
    assert light.get(made.run_id).tags[KEY_TAG] == "k"
    assert [entry.run_id for entry in library.find(experiment, "k")] == [made.run_id]
    library.set_status(made.run_id, "FINISHED", 9)
    assert [entry.status for entry in light.find(experiment, "k")] == ["FINISHED"]
    light.set_status(made.run_id, "RUNNING", None)
    light.set_tag(made.run_id, "b", "1")
    light.set_tag(made.run_id, "b", "2")
    assert (library.get(made.run_id).status, library.get(made.run_id).tags["b"]) == ("RUNNING", "2")
    light.delete(made.run_id)
    assert (light.get(made.run_id), library.get(made.run_id), light.find(experiment, "k")) == (None, None, [])
    assert light.get("0" * 32) is library.get("0" * 32) is None


def test_an_attempt_that_ended_in_its_middle_leaves_nothing(uri, configured, finished, monkeypatch):
    """The store goes away after the run was made there: the next attempt has it once and whole."""
    folder, config = finished(), configured(uri)
    way = type(open_client(uri))

    def breaks(*arguments):
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(way, "upload", breaks)
        assert deliver(config, [folder]) is None
    assert [f.key for f in unsent(folder.path.parent, config)] == [folder.key]
    assert deliver(config, [folder])
    library = MlflowClient(tracking_uri=uri)
    experiment = library.get_experiment_by_name(config.experiment).experiment_id
    (run,) = library.search_runs([experiment])
    assert run.info.status == "FINISHED"
    assert len(library.get_metric_history(run.info.run_id, "epoch/train/loss")) == 3


def test_a_run_whose_answer_was_lost_is_not_sent_twice(uri, configured, finished):
    """The server had it all, and the process was killed before it could note that."""
    folder, config = finished(), configured(uri)
    assert deliver(config, [folder])
    (folder.path / "mlflow.json").unlink()
    assert deliver(config, [folder])
    library = MlflowClient(tracking_uri=uri)
    assert len(library.search_runs([library.get_experiment_by_name(config.experiment).experiment_id])) == 1


def test_the_number_of_calls_does_not_grow_with_the_epochs(server, configured, finished, monkeypatch):
    made = []
    ask = Rest.call
    monkeypatch.setattr(Rest, "call", lambda self, method, path, **c: made.append(path) or ask(self, method, path, **c))
    store = Store(configured(server.uri))
    counts = []
    for key, epochs in (("a-1", 1), ("a-300", 300)):
        made.clear()
        store.send(finished(key, epochs))
        counts.append(len(made))
    # The second one is looked up, made, logged in one batch, sent with five files, and closed.
    assert counts == [9, 9]
    assert [path for path in made if path.endswith("log-batch")] == ["mlflow/runs/log-batch"]


def test_batches_keep_to_the_limits_and_lose_nothing():
    parameters = [(f"p{n}", "") for n in range(230)]
    points = [Point(f"m{n}", n, 0, 0) for n in range(2100)]
    parts = list(batches(parameters, points))
    assert [len(some) for some, _ in parts] == [100, 100, 30]
    assert all(len(some) + len(few) <= 1000 for some, few in parts)
    assert [p for some, _ in parts for p in some] == parameters
    assert [p for _, few in parts for p in few] == points
    assert list(batches([], [])) == []


def test_a_local_run_is_sent_without_importing_mlflow(local, configured, finished):
    """What makes a short command short: seconds of CPU."""
    folder, config = finished(), configured(local)
    Store(config)  # the experiment is made by the library
    script = f"""
import sys
from pathlib import Path
from recbench.config.settings import TrackingConfig
from recbench.core.run_folder import RunFolder
from recbench.tracking.mlflow_store import deliver
assert deliver(TrackingConfig(uri={local!r}, experiment={config.experiment!r}), [RunFolder(Path({str(folder.path)!r}))])
assert not {{"mlflow", "sqlalchemy", "torch", "pandas"}} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_database_with_other_tables_goes_through_the_library(tmp_path):
    path = tmp_path / "mlflow.db"
    tables = {name: ", ".join(columns) for name, columns in KNOWN.items()}
    with sqlite3.connect(path) as database:
        for name, columns in tables.items():
            database.execute(f"CREATE TABLE {name} ({columns}, later TEXT DEFAULT '')")
    uri = f"sqlite:///{path}"
    assert type(open_client(uri)) is Sqlite  # one more column that may stay empty does no harm
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE tags")
        database.execute("CREATE TABLE tags (key, value, run_uuid, needed TEXT NOT NULL)")
    assert Sqlite.opened(uri) is None
    assert Sqlite.opened(f"sqlite:///{tmp_path}/absent.db") is None
    assert Sqlite.opened(f"{uri}?timeout=3") is None


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_CLIENT_CERT_PATH", "MLFLOW_TRACKING_AUTH"])
def test_a_server_that_asks_for_more_goes_through_the_library(name, monkeypatch):
    assert Rest.opened("http://127.0.0.1:1") is not None
    assert Rest.opened("databricks") is None
    monkeypatch.setenv(name, "x")
    assert Rest.opened("http://127.0.0.1:1") is None


def test_passwords_and_tokens_are_sent(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    assert Rest("http://127.0.0.1:1").session.headers["Authorization"] == "Bearer secret"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "word")
    assert Rest("http://127.0.0.1:1").session.auth == ("me", "word")


def test_the_newest_point_of_a_curve_is_its_last_step(local, configured):
    client = Sqlite(local)
    entry = client.create(client.experiment(configured(local).experiment), 0, {clients.NAME_TAG: "a"})
    points = [Point("a", 1.0, 9, 2), Point("a", 5.0, 3, 1), Point("b", math.inf, 0, 0)]
    client.log(entry.run_id, [], points)
    assert MlflowClient(tracking_uri=local).get_run(entry.run_id).data.metrics["a"] == 1.0
