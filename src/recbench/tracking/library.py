"""A tracking store through MLflow's own client, which knows every kind of store. Importing this module imports MLflow, which takes a second."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from recbench.tracking.store import KEY_TAG, Entry, Point

logger = logging.getLogger(__name__)

#: What has MLflow show its pages for trained models rather than those for language models.
KIND = {"mlflow.experimentKind": "custom_model_development"}
#: The most runs that one question returns.
MOST_RUNS = 1000


class Library:
    """One store. What goes wrong in it is raised as MLflow raises it; ``client.reachable`` makes one kind of that."""

    def __init__(self, uri: str) -> None:
        self.client = MlflowClient(tracking_uri=uri)

    def experiment(self, name: str) -> str:
        """Id of an experiment. It is made if it is missing, and restored if somebody deleted it, which is said."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name, tags=KIND))
            except MlflowException:
                # Another process was quicker.
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
            logger.warning("the MLflow experiment '%s' was deleted; it is restored, with its runs", name)
        return str(found.experiment_id)

    def get(self, run_id: str) -> Entry | None:
        """A run; None if there is none, or if it was deleted."""
        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return _entry(run) if run.info.lifecycle_stage == "active" else None

    def search(self, experiment: str, having: str, most: int = MOST_RUNS) -> list[Entry]:
        """The newest runs of an experiment that match a filter and were not deleted. having: in MLflow's language of searches."""
        return [_entry(run) for run in self.client.search_runs([experiment], having, max_results=most)]

    def find(self, experiment: str, key: str) -> list[Entry]:
        """The runs of an experiment, not deleted, that have this ``recbench.key``."""
        quote = '"' if "'" in key else "'"
        return self.search(experiment, f"tags.`{KEY_TAG}` = {quote}{key}{quote}")

    def create(self, experiment: str, started: int, tags: Mapping[str, str]) -> Entry:
        """A new run in the state RUNNING; its name is a tag. started: milliseconds since 1970."""
        return _entry(self.client.create_run(experiment, start_time=started, tags=dict(tags)))

    def log(self, run_id: str, parameters: Sequence[tuple[str, str]], points: Sequence[Point]) -> None:
        """Parameters and points of curves; the client cuts them into as few calls as a store allows."""
        metrics = [Metric(p.name, p.value, p.milliseconds, p.step) for p in points]
        self.client.log_batch(run_id, metrics=metrics, params=[Param(*pair) for pair in parameters])

    def upload(self, run_id: str, files: Sequence[Path]) -> None:
        for path in files:
            self.client.log_artifact(run_id, str(path))

    def set_status(self, run_id: str, status: str, ended: int | None) -> None:
        """RUNNING | FINISHED | FAILED, and when it ended, in milliseconds since 1970."""
        if status == "RUNNING":
            self.client.update_run(run_id, status=status)
        else:
            self.client.set_terminated(run_id, status, end_time=ended)

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        self.client.set_tag(run_id, name, value)

    def set_experiment_tag(self, experiment: str, name: str, value: str) -> None:
        self.client.set_experiment_tag(experiment, name, value)

    def delete(self, run_id: str) -> None:
        self.client.delete_run(run_id)


def _entry(run: Run) -> Entry:
    info, data = run.info, run.data
    return Entry(info.run_id, info.status, info.start_time, dict(data.tags), dict(data.params), dict(data.metrics))
