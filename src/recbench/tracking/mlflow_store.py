"""Finished runs in MLflow. A run is read from its folder and sent whole, so a server that is down loses nothing.

Where a run was sent is kept in its folder (``mlflow.json``); sending it again there does nothing. A sweep is a parent run; jobs and
their dependencies are its children; the dependencies of a single run are children of that run.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbench.config import TrackingConfig
from recbench.runs import RunFolder, locked

logger = logging.getLogger(__name__)

ARTIFACTS = ("config.yaml", "provenance.json", "metrics.json", "history.jsonl", "ranks.parquet", "log.txt")
PARENT_TAG = "mlflow.parentRunId"
#: MLflow's limits of one batch call.
BATCH_METRICS, BATCH_PARAMS, PARAM_LENGTH = 1000, 100, 6000


class Unreachable(Exception):
    """The tracking store did not answer."""


class Store:
    """One tracking store and one experiment in it."""

    def __init__(self, config: TrackingConfig) -> None:
        self.config = config
        with reachable(config):
            from mlflow.tracking import MlflowClient

            self.client = MlflowClient(tracking_uri=config.uri)
            self.experiment = self._experiment()

    @property
    def place(self) -> str:
        return f"{self.config.uri}#{self.config.experiment}"

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(self.config.experiment)
        if found is not None:
            return found.experiment_id
        try:
            return self.client.create_experiment(self.config.experiment)
        except MlflowException:
            # Another process was quicker.
            found = self.client.get_experiment_by_name(self.config.experiment)
            if found is None:
                raise
            return found.experiment_id

    def start_parent(self, name: str, tags: Mapping[str, str]) -> str:
        """A run that groups others, such as a sweep; returns its id."""
        with reachable(self.config):
            run = self.client.create_run(self.experiment, run_name=name, tags=dict(tags))
            return run.info.run_id

    def reopen_parent(self, run_id: str) -> bool:
        """Say of a run that groups others that it goes on; False if it is not there any more."""
        with reachable(self.config):
            if not self._exists(run_id):
                return False
            self.client.update_run(run_id, status="RUNNING")
            return True

    def end_parent(self, run_id: str, failed: bool) -> None:
        with reachable(self.config):
            self.client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def send(self, folder: RunFolder, parent: str | None = None) -> str:
        """Send a finished run, or only name its parent if it was sent before. Returns its MLflow id."""
        # Two jobs that share a dependency may come here with it at the same time.
        with reachable(self.config), locked(folder):
            sent = folder.read("mlflow.json").get(self.place)
            if sent is None or not self._exists(sent):
                sent = self._send_new(folder)
                folder.write("mlflow.json", {**folder.read("mlflow.json"), self.place: sent})
            if parent and parent != sent:
                tags = self.client.get_run(sent).data.tags
                if PARENT_TAG not in tags:
                    self.client.set_tag(sent, PARENT_TAG, parent)
            return sent

    def send_with(self, folder: RunFolder, needed: Iterable[RunFolder], parent: str | None = None) -> None:
        """Send a run and the runs it stands on. Without a parent, the run becomes the parent of the others."""
        sent = self.send(folder, parent)
        for part in needed:
            self.send(part, parent or sent)

    def _exists(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _send_new(self, folder: RunFolder) -> str:
        from mlflow.entities import Param

        status, metrics = folder.read("status.json"), folder.read("metrics.json")
        started, ended = int(1000 * status["started"]), int(1000 * status["updated"])
        config = folder.config()
        run = self.client.create_run(
            self.experiment,
            start_time=started,
            run_name=folder.key,
            tags=tags_of(folder.key, config, metrics, folder.read("provenance.json")),
        )
        run_id = run.info.run_id
        params = [Param(key, value[:PARAM_LENGTH]) for key, value in parameters_of(config)]
        for first in range(0, len(params), BATCH_PARAMS):
            self.client.log_batch(run_id, params=params[first : first + BATCH_PARAMS])
        values = list(metrics_of(metrics, folder.history(), started, ended))
        for first in range(0, len(values), BATCH_METRICS):
            self.client.log_batch(run_id, metrics=values[first : first + BATCH_METRICS])
        for name in ARTIFACTS:
            if (folder.path / name).is_file():
                self.client.log_artifact(run_id, str(folder.path / name))
        self.client.set_terminated(run_id, "FINISHED", end_time=ended)
        return run_id


def metric_name(name: str) -> str:
    """MLflow's name of one of ours: it allows no '@'."""
    return name.replace("@", "_at_")


def metrics_of(final: Mapping[str, Any], history: list[dict[str, Any]], started: int, ended: int) -> Iterator[Any]:
    """Final figures, then one point an epoch of everything that the history holds."""
    from mlflow.entities import Metric

    for name, value in final.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield Metric(metric_name(name), float(value), ended, 0)
    for group in ("audit", "oracle"):
        for name, value in final.get(group, {}).items():
            if isinstance(value, int | float):
                yield Metric(metric_name(f"{group}/{name}"), float(value), ended, 0)
    clock = float(started)
    for epoch in history:
        clock += 1000 * (epoch.get("seconds/train", 0.0) + epoch.get("seconds/validation", 0.0))
        for name, value in epoch.items():
            if name != "epoch":
                yield Metric(metric_name(f"epoch/{name}"), float(value), int(clock), int(epoch["epoch"]))


def parameters_of(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The config as dotted keys, named as on the command line; ``model.name`` is ``model`` and so on."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from parameters_of(value, f"{name}.")
        elif key == "name":
            yield prefix.rstrip("."), str(value)
        else:
            yield name, str(value)


def tags_of(
    key: str, config: Mapping[str, Any], metrics: Mapping[str, Any], source: Mapping[str, Any]
) -> dict[str, str]:
    versions = source.get("versions", {})
    tags = {
        "recbench.key": key,
        "recbench.model": config["model"]["name"],
        "recbench.data": config["data"]["name"],
        "recbench.protocol": metrics.get("protocol"),
        "recbench.data_fingerprint": source.get("data_fingerprint"),
        "recbench.split_hash": source.get("split_hash"),
        "recbench.hardware": source.get("processor"),
        "recbench.gpu": ", ".join(source.get("gpu", [])) or "none",
        "git.commit": source.get("commit"),
        "git.dirty": source.get("dirty"),
        **{f"version.{name}": number for name, number in versions.items()},
    }
    return {name: str(value) for name, value in tags.items() if value is not None}


@contextmanager
def reachable(config: TrackingConfig) -> Iterator[None]:
    """Give up soon on a server that does not answer, and say so as Unreachable whatever the client library raises."""
    limits = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(config.timeout_seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_LOGGING_LEVEL": "WARNING",  # else it tells of every table that it creates
    }
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns of every retry
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        if _is_absence(error):
            raise Unreachable(f"{config.uri} ({type(error).__name__}: {str(error).splitlines()[0][:120]})") from error
        raise
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _is_absence(error: Exception) -> bool:
    """Whether an error says that the store cannot be had, rather than that we used it wrongly."""
    if isinstance(error, OSError):  # requests' connection errors are OSErrors
        return True
    module = type(error).__module__
    return module.startswith(("mlflow", "sqlalchemy", "requests", "urllib3"))


def deliver(config: TrackingConfig, folders: list[RunFolder], parent: str | None = None) -> bool:
    """Send finished runs, the last being the one asked for and the others what it stands on. False if the store was unreachable.

    Without a parent, the last run becomes the parent of the others.
    """
    try:
        Store(config).send_with(folders[-1], folders[:-1], parent)
    except Unreachable as error:
        logger.warning(
            "MLflow is not reachable: %s; the run is complete on disk, send it later with: python -m recbench.tracking sync",
            error,
        )
        return False
    return True


def sync(runs_dir: Path, config: TrackingConfig) -> Iterator[str]:
    """Send every finished run that the store has not heard of; yields their keys. Dependencies become children of what needs them.

    Raises Unreachable.
    """
    store = Store(config)
    waiting = {f.key: f for f in unsent(runs_dir, config)}
    needs = {key: list(f.read("metrics.json").get("dependencies", {}).values()) for key, f in waiting.items()}
    inner = {key for keys in needs.values() for key in keys}
    # What nothing else stands on goes first: an item table is a child of the student, not of the teacher that shares it.
    for key in sorted(waiting, key=inner.__contains__):
        parts = [RunFolder(runs_dir / name) for name in needs[key]]
        store.send_with(waiting[key], [part for part in parts if part.finished])
        yield key


def unsent(runs_dir: Path, config: TrackingConfig) -> list[RunFolder]:
    """Finished runs of a folder that this store has not heard of."""
    place = f"{config.uri}#{config.experiment}"
    folders = [RunFolder(path.parent) for path in sorted(runs_dir.glob("*/status.json"))]
    return [f for f in folders if f.finished and place not in f.read("mlflow.json")]
