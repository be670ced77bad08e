"""What every rival's program needs around its own training: step marks, cut epochs, the ``epoch`` line, and when to give up.

Standard library only: it runs in every rival's environment.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any, NamedTuple

from benchmarks.task import SASRecTask, emit

#: Steps at the head of a cut epoch that are not counted: the first ones allocate and choose kernels.
WARM_UP = 2


class TimedLoader:
    """Any sized iterable of batches that notes when each step ended, and can stop an epoch early."""

    def __init__(self, loader: Any, max_steps: int) -> None:
        self.loader, self.max_steps, self.marks = loader, max_steps, [0.0]

    def __len__(self) -> int:
        return min(len(self.loader), self.max_steps or len(self.loader))

    def __iter__(self) -> Iterator[Any]:
        self.marks = [time.perf_counter()]
        for batch in islice(self.loader, len(self)):
            yield batch
            self.marks.append(time.perf_counter())


def whole_epoch(marks: list[float], rows_a_step: int, rows: int) -> float:
    """Seconds of an epoch of ``rows`` rows by its first steps: ``marks`` are the moments of its start and of the end of each step made.

    >>> whole_epoch([0.0, 9.0, 18.0, 20.0, 22.0], rows_a_step=10, rows=95)
    19.0
    """
    made = len(marks) - 1
    skipped = min(WARM_UP, made - 1)
    return (marks[-1] - marks[skipped]) / ((made - skipped) * rows_a_step) * rows


def emit_epoch(
    epoch: int,
    marks: list[float],
    seconds: float,
    steps: int,
    rows_a_step: int,
    rows: int,
    loss: float,
    **more: float,
) -> None:
    """The ``epoch`` line of an epoch of ``steps`` steps and ``rows`` rows, of which the steps between the ``marks`` were made."""
    made = len(marks) - 1
    extrapolated = made < steps
    emit(
        "epoch",
        epoch=epoch,
        steps=made,
        steps_of_epoch=steps,
        seconds=seconds,
        epoch_seconds=whole_epoch(marks, rows_a_step, rows) if extrapolated else seconds,
        extrapolated=extrapolated,
        step_seconds=statistics.median(after - before for before, after in pairwise(marks)),
        loss=loss,
        **more,
    )


class Ranked(NamedTuple):
    """What an evaluation found, and how long it took."""

    ndcg: float
    seconds: float


class Patience:
    """Says when a system is done before its last epoch: at the bar, or when it has tried for so long that it gives up."""

    def __init__(self, task: SASRecTask) -> None:
        self.task, self.started = task, time.perf_counter()
        self.left_out = 0.0

    def ends(self, evaluations: dict[str, Ranked]) -> bool:
        """evaluations: of each split after an epoch. Those of the test part do not count as time spent on the way to the bar."""
        task = self.task
        if task.reach and evaluations[task.reach_split].ndcg >= task.reach:
            return True
        self.left_out += evaluations["test"].seconds
        return bool(task.give_up) and time.perf_counter() - self.started - self.left_out >= task.give_up
