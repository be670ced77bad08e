"""What recbench asks of a tracking store, and the way through MLflow's own library, which knows every kind of store.

The library takes seconds of CPU to import, more than a short run. So a local database and a server have a lighter way (``sqlite.py``,
``rest.py``); ``open_client`` chooses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

#: MLflow's limits of one batch call.
BATCH_POINTS, BATCH_PARAMETERS, BATCH_TOTAL = 1000, 100, 1000

KEY_TAG, NAME_TAG, PARENT_TAG = "recbench.key", "mlflow.runName", "mlflow.parentRunId"


class Point(NamedTuple):
    """One value of a metric."""

    name: str
    value: float
    milliseconds: int  # since 1970
    step: int


class Entry(NamedTuple):
    """A run as the store has it."""

    run_id: str
    status: str
    started: int  # milliseconds since 1970
    artifacts: str  # where its files go, as MLflow writes it
    tags: dict[str, str]


class Client(Protocol):
    """One store. Whatever goes wrong in it is raised as its library raises it; ``mlflow_store.reachable`` makes one kind of that."""

    def experiment(self, name: str) -> str:
        """Id of an experiment, which is made if it is missing."""

    def get(self, run_id: str) -> Entry | None:
        """A run; None if there is none, or if it was deleted."""

    def find(self, experiment: str, key: str) -> list[Entry]:
        """The runs of an experiment, not deleted, that have this ``recbench.key``."""

    def create(self, experiment: str, started: int, tags: Mapping[str, str]) -> Entry:
        """A new run in the state RUNNING; its name is a tag."""

    def log(self, run_id: str, parameters: Sequence[tuple[str, str]], points: Sequence[Point]) -> None: ...

    def upload(self, entry: Entry, files: Sequence[Path]) -> None: ...

    def set_status(self, run_id: str, status: str, ended: int | None) -> None:
        """RUNNING | FINISHED | FAILED, and when it ended, in milliseconds since 1970."""

    def set_tag(self, run_id: str, name: str, value: str) -> None: ...

    def delete(self, run_id: str) -> None: ...


def open_client(uri: str) -> Client:
    """The lightest client that knows the store of a URI."""
    from recbench.tracking.rest import Rest
    from recbench.tracking.sqlite import Sqlite

    return Sqlite.opened(uri) or Rest.opened(uri) or Library(uri)


def batches(
    parameters: Sequence[tuple[str, str]], points: Sequence[Point]
) -> Iterator[tuple[Sequence[tuple[str, str]], Sequence[Point]]]:
    """As few parts as MLflow's limits of one call allow."""
    while parameters or points:
        some, parameters = parameters[:BATCH_PARAMETERS], parameters[BATCH_PARAMETERS:]
        room = min(BATCH_POINTS, BATCH_TOTAL - len(some))
        yield some, points[:room]
        points = points[room:]


class Library:
    """Any store, through MLflow."""

    def __init__(self, uri: str) -> None:
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)

    def experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self.client.create_experiment(name))
        except MlflowException:
            # Another process was quicker.
            found = self.client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    def get(self, run_id: str) -> Entry | None:
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return self._entry(run) if run.info.lifecycle_stage == "active" else None

    def find(self, experiment: str, key: str) -> list[Entry]:
        return [self._entry(run) for run in self.client.search_runs([experiment], key_filter(key))]

    @staticmethod
    def _entry(run: Any) -> Entry:
        info = run.info
        return Entry(info.run_id, info.status, info.start_time, info.artifact_uri, dict(run.data.tags))

    def create(self, experiment: str, started: int, tags: Mapping[str, str]) -> Entry:
        return self._entry(self.client.create_run(experiment, start_time=started, tags=dict(tags)))

    def log(self, run_id: str, parameters: Sequence[tuple[str, str]], points: Sequence[Point]) -> None:
        from mlflow.entities import Metric, Param

        for some, few in batches(parameters, points):
            self.client.log_batch(run_id, metrics=[Metric(*point) for point in few], params=[Param(*p) for p in some])

    def upload(self, entry: Entry, files: Sequence[Path]) -> None:
        for path in files:
            self.client.log_artifact(entry.run_id, str(path))

    def set_status(self, run_id: str, status: str, ended: int | None) -> None:
        if status == "RUNNING":
            self.client.update_run(run_id, status=status)
        else:
            self.client.set_terminated(run_id, status, end_time=ended)

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        self.client.set_tag(run_id, name, value)

    def delete(self, run_id: str) -> None:
        self.client.delete_run(run_id)


def key_filter(key: str) -> str:
    """In MLflow's language of searches."""
    return f"tags.`{KEY_TAG}` = '{key}'"
