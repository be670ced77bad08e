"""How long an answer takes, and how many come a second, for any function from batches to answers.

Latency is what one user waits for at batch 1: median, 95th and 99th percentile over distinct users, each timed once after a warm-up. Throughput
is users a second at a larger batch, median of its repetitions, whose own percentiles are the latency of that batch.
Both are bounded by a time, not by a count alone: a slow model is timed on
fewer users and at a smaller batch, and the figures say so. On a CPU both depend on the number of threads, which stands beside them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recbench.data.batches import Batch, gather
from recbench.data.cases import Cases
from recbench.data.store import PreparedData

#: Users that are timed one by one, and users of a batch, where time allows.
N_USERS, BATCH_USERS = 100, 128
#: Calls before the clock starts, and timed calls of the same batch.
WARM_UP, REPEATS = 3, 20
#: Seconds that a series of calls may take; a call that was begun is finished, and counted.
BUDGET_SECONDS = 0.4

QUANTILES = (0.5, 0.95, 0.99)

Answer = Callable[[Batch], Any]
#: Numbers of cases [B] -> their batch, on the device.
Take = Callable[[np.ndarray], Batch]


@dataclass(frozen=True)
class Efficiency:
    """latency_p50, latency_p95, latency_p99: seconds at batch 1 over ``timed_users`` users. users_per_second: at ``batch_users`` users a
    batch, which took batch_p50, batch_p95 and batch_p99 seconds over ``timed_batches`` calls. threads: CPU threads of torch.

    A percentile of few calls is little more than their maximum, so how many there were stands beside it."""

    latency_p50: float
    latency_p95: float
    latency_p99: float
    timed_users: int
    users_per_second: float
    batch_users: int
    batch_p50: float
    batch_p95: float
    batch_p99: float
    timed_batches: int
    threads: int


def measure_efficiency(
    answer: Answer,
    take: Take,
    n_cases: int,
    *,
    n_users: int = N_USERS,
    batch_users: int = BATCH_USERS,
    repeats: int = REPEATS,
    budget: float = BUDGET_SECONDS,
    device: torch.device | str = "cpu",
) -> Efficiency:
    """Time ``answer`` on single users and on a batch of them, all spread evenly over the cases 0 .. n_cases - 1.

    n_cases: at least 1. n_users, batch_users: how many of them at most. repeats: timed calls of
    the batch at most. The random state is left as it was. Moving a batch to the device
    is not timed, waiting for the device is.
    """
    device = torch.device(device)
    with _undisturbed(device), torch.inference_mode():
        first = take(spread(n_cases, 1))
        list(_times(answer, [first] * WARM_UP, budget, device))
        alone = list(_times(answer, (take(np.array([case])) for case in spread(n_cases, n_users)), budget, device))
        batch, seconds = _largest_batch(answer, take, n_cases, batch_users, budget, device)
        # The call that chose the batch found cold buffers; it counts only where there is no time for another.
        repeated = list(_times(answer, [batch] * repeats, budget - seconds, device)) if seconds < budget else [seconds]
    p50, p95, p99 = (float(value) for value in np.quantile(alone, QUANTILES))
    batch_p50, batch_p95, batch_p99 = (float(value) for value in np.quantile(repeated, QUANTILES))
    return Efficiency(
        latency_p50=p50,
        latency_p95=p95,
        latency_p99=p99,
        timed_users=len(alone),
        users_per_second=len(batch) / batch_p50,
        batch_users=len(batch),
        batch_p50=batch_p50,
        batch_p95=batch_p95,
        batch_p99=batch_p99,
        timed_batches=len(repeated),
        threads=torch.get_num_threads(),
    )


def batches_of(data: PreparedData, cases: Cases, max_length: int, device: torch.device | str) -> Take:
    """Reads the most recent ``max_length`` events of the histories of the chosen cases."""

    def take(chosen: np.ndarray) -> Batch:
        end = cases.end[chosen]
        length = np.minimum(end - cases.start[chosen], max_length)
        return gather(data, cases.user[chosen], end - length, length, with_targets=False).to(device)

    return take


def spread(n: int, wanted: int) -> np.ndarray:
    """``wanted`` distinct numbers of 0 .. n - 1 at even distances, all of them where there are fewer. The same at every call.

    >>> spread(10, 4)
    array([0, 2, 5, 7])
    """
    wanted = min(n, wanted)
    return np.arange(wanted) * n // wanted


def _largest_batch(
    answer: Answer, take: Take, n_cases: int, wanted: int, budget: float, device: torch.device
) -> tuple[Batch, float]:
    """The batch of 1, 2, 4, ... ``wanted`` users before which a call would be expected to take more than the budget, and its seconds."""
    size = 1
    while True:
        batch = take(spread(n_cases, size))
        (seconds,) = _times(answer, [batch], budget, device)
        if size >= min(wanted, n_cases) or 2 * seconds > budget:
            return batch, seconds
        size = min(2 * size, wanted)


def _times(answer: Answer, batches: Iterable[Batch], budget: float, device: torch.device) -> Iterator[float]:
    """Seconds of each call until the budget is used up; at least one."""
    spent = 0.0
    for batch in batches:
        wait_for(device)
        started = time.perf_counter()
        answer(batch)
        wait_for(device)
        seconds = time.perf_counter() - started
        yield seconds
        spent += seconds
        if spent >= budget:
            return


def wait_for(device: torch.device) -> None:
    """Until a GPU has done what it was given; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """A model that draws random numbers for its answers takes none from what comes after."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
