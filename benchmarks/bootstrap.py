"""Resamples of users as weights in one product, against drawing index by index: ``python -m benchmarks.bootstrap``.

Three ways to the same draws: ours, a loop that takes every model's values by the drawn index, and the same loop model after model with
draws of its own. The loops are measured on fewer resamples and scaled up. ``verdicts`` is all of ``recbench.cli.compare`` after the ranks are read.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np

from recbench.evaluation.statistics.bootstrap import resampled_totals
from recbench.evaluation.statistics.compare import judge_values

#: Resamples of the loops.
SAMPLE = 200


def by_index(values: np.ndarray, resamples: int) -> np.ndarray:
    """[R, K] totals, all models by one drawn index."""
    generator = np.random.default_rng(0)
    n = len(values)
    return np.stack([values[generator.integers(0, n, n)].sum(axis=0) for _ in range(resamples)])


def model_by_model(values: np.ndarray, resamples: int) -> np.ndarray:
    """[R, K] totals, each model drawn for itself."""
    return np.column_stack([by_index(np.ascontiguousarray(column)[:, None], resamples) for column in values.T])


def seconds(work: Callable[[], object], times: float = 1.0) -> tuple[float, float]:
    """(seconds on the clock, seconds of the processor, all threads together) of some work, scaled up."""
    started, spent = time.perf_counter(), time.process_time()
    work()
    return times * (time.perf_counter() - started), times * (time.process_time() - spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=22_363)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3, help="of each model, for the verdicts")
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    generator = np.random.default_rng(1)
    # NDCG-like: about one user in eleven is hit, at any of ten places.
    shape = (chosen.models, chosen.seeds, chosen.users)
    totals = (generator.random(shape) < 0.09) / np.log2(generator.integers(2, 12, shape))
    values, cases = np.ascontiguousarray(totals[:, 0].T), np.ones(chosen.users)
    names = [f"model {i}" for i in range(chosen.models)]
    scale = chosen.resamples / SAMPLE
    ways: dict[str, Callable[[], tuple[float, float]]] = {
        "weights, one product": lambda: seconds(lambda: resampled_totals(values, chosen.resamples, 0)),
        "verdicts": lambda: seconds(lambda: judge_values(names, list(totals), cases, 0, chosen.resamples)),
        "index by index": lambda: seconds(lambda: by_index(values, SAMPLE), scale),
        "index by index, model by model": lambda: seconds(lambda: model_by_model(values, SAMPLE), scale),
    }
    # In turn, so that a machine that slows down slows all of them.
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(chosen.rounds):
        for name, way in ways.items():
            measured[name].append(way())
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{chosen.resamples} resamples, {chosen.users} users, {chosen.models} models, threads {threads}")
    print(
        "clock and processor; the processor's figure is what a machine with nothing else to do would take on one core"
    )
    base = 0.0
    for name, taken in measured.items():
        clock, processor = (sorted(column)[chosen.rounds // 2] for column in zip(*taken, strict=True))
        base = base or processor
        print(f"{name:<32} {clock:8.2f} s {processor:8.2f} s {processor / base:6.1f}x")


if __name__ == "__main__":
    main()
