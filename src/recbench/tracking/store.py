"""The words that recbench and a tracking store share: a value of a metric, a run as the store has it, the tags that say what it is."""

from __future__ import annotations

from typing import NamedTuple

#: recbench's key of a run.
KEY_TAG = "recbench.key"
#: MLflow's own tags for the name of a run and for the run that it is shown under.
NAME_TAG, PARENT_TAG = "mlflow.runName", "mlflow.parentRunId"

#: The sweeps that a run is a job of: MLflow shows it under the first of them only. Short ids with blanks between.
SWEEPS_TAG = "recbench.sweeps"

#: MLflow's longest value of a parameter, and of a tag of an experiment.
PARAMETER_LENGTH, EXPERIMENT_TAG_LENGTH = 6000, 5000
#: What MLflow's databases take as a name.
NAME_LENGTH = 250


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
    tags: dict[str, str]
    parameters: dict[str, str]
    metrics: dict[str, float]  # the last value of each


class Unreachable(Exception):
    """The tracking store did not answer, or cannot be written."""


def short_id(run_id: str) -> str:
    """Enough of an id to know one sweep from another."""
    return run_id[:8]
