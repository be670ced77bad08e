"""The report beside its runs in MLflow."""

from __future__ import annotations

import json

import pytest

from recbench.config.settings import TrackingConfig
from recbench.core.run_folder import RunFolder
from recbench.report.collect import read_folder
from recbench.report.publish import publish
from recbench.tracking.mlflow_store import Store
from recbench.tracking.store import PARENT_TAG


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    made = Store(TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db", experiment="e"))
    return made


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "report.html").write_text("page")
    return folder


def sent(store, folders, *keys, parent=None):
    for key in keys:
        store.send(RunFolder(folders.add(key, config={"model": {"name": key[0]}})), parent)
    return read_folder(folders.path)


def library(store):
    from mlflow import MlflowClient

    return MlflowClient(store.config.uri)


def artifacts(store, run_id):
    return [file.path for file in library(store).list_artifacts(run_id)]


def test_runs_of_a_sweep_give_the_report_to_their_parent(store, folders, out):
    parent = store.start_parent({"mlflow.runName": "sweep"}, 1000)
    runs = sent(store, folders, "a-1", "b-1", parent=parent)
    assert publish("mine", out, runs) == parent
    assert artifacts(store, parent) == ["report.html"]


def test_other_runs_give_it_to_a_run_of_its_name_once(store, folders, out):
    runs = sent(store, folders, "c-1", "d-1")
    first = publish("it's", out, runs)
    assert artifacts(store, first) == ["report.html"]
    found = library(store).get_run(first)
    assert found.info.run_name == "report it's"
    assert PARENT_TAG not in found.data.tags
    assert publish("it's", out, runs) == first


def test_runs_that_were_never_sent_send_nothing(folders, out):
    folders.add("a-1")
    assert publish("mine", out, read_folder(folders.path)) is None


def test_a_store_that_is_not_here_is_not_made(folders, out, tmp_path, caplog):
    path = folders.add("a-1")
    (path / "mlflow.json").write_text(json.dumps({f"sqlite:///{tmp_path}/gone.db#e": "1"}))
    assert publish("mine", out, read_folder(folders.path)) is None
    assert not (tmp_path / "gone.db").exists()
