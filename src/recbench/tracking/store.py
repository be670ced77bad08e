"""The words that recbench and a tracking store share: a value of a metric, a run as the store has it, the tags that say what it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from recbench.core.disk import DiskFull

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


class StoreFull(Unreachable):
    """The disk of the tracking store is full."""


class NotSent(DiskFull):
    """Finished runs that their tracking store has no space for. They are complete on disk, and are sent once there is some.

    runs: those of the job, for whoever shows them, the asked one last.
    """

    def __init__(self, where: str, finished: str, mend: str) -> None:
        """where: the store; finished: what is complete on disk; mend: what sends it later."""
        super().__init__(
            f"not sent to {where}: the disk is full; {finished} is complete in its folder: free some space, then {mend} sends what is missing"
        )
        self.runs: Sequence[Any] = ()


def short_id(run_id: str) -> str:
    """Enough of an id to know one sweep from another."""
    return run_id[:8]
