"""``python -m benchmarks.busy``: what a training costs alone, beside another one, and beside a load of 8, by how its threads are set.

    python -m benchmarks.busy [--models sasrec,tim4rec,srgnn,slmrec] [--seconds 1.5] [--load 8] [--quick] [--alone ROUNDS]

Start it on a quiet machine. Each setting is a pair of processes, which know every model in two sizes: the demo's data and data drawn with the shape
of Amazon Beauty. The driver has one of them, or both at once, take training steps for some seconds, and prints ratios:

    alone     seconds a step over those of the best setting alone        (wanted: auto at most 1.05)
    two       seconds a step of each of two at once over its own alone   (wanted: auto at most 2.3)
    load      seconds a step beside the load over its fair share, which is (load + 1) / cores of its time with one thread (wanted: auto at most 1.5)

``--alone ROUNDS`` measures the first of the three alone, and better: the settings take turns, and each has the median of its rounds. Two processes
of the same setting, or one a minute later, differ by a fifth at times, which single measurements cannot tell from a setting's worth.

``auto`` is what ``recbench.experiment.busy_machine`` does: it looks at the machine about once a second while it trains. What is measured begins
after the first looks, three seconds; its table is to hold what makes these rows good.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from recbench.experiment.busy_machine import (
    LEAST_SECONDS,
    THREADS_SET,
    WAITING_SET,
    Machine,
    Seen,
    Watch,
    choose,
    spin_of,
)

MODELS = ("sasrec", "tim4rec", "srgnn", "slmrec")
SIZES = ("demo", "beauty")
#: Seconds of training before ``auto`` is measured.
SETTLED = 3.0
SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "spin 1000": {"GOMP_SPINCOUNT": "1000"},
    "spin 10000": {"GOMP_SPINCOUNT": "10000"},
    "auto": spin_of({}),
}
#: Steps whose batches are drawn; they are taken in turns.
STEPS, WARM_UP = 4, 2


@dataclass
class Worker:
    """A process of one setting. ``ask`` starts a measurement, ``answer`` waits for it."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, setting: str, models: Sequence[str]) -> Worker:
        clean = {k: v for k, v in os.environ.items() if k not in (*THREADS_SET, *WAITING_SET)}
        command = [sys.executable, "-m", "benchmarks.busy", "--worker", "--models", ",".join(models)]
        process = subprocess.Popen(
            command, env={**clean, **SETTINGS[setting]}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return cls(process)

    def ask(self, **question: Any) -> None:
        assert self.process.stdin is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)

    def answer(self) -> float:
        """Seconds of a step."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return float(json.loads(line)["seconds"])
        raise RuntimeError(f"a worker ended with {self.process.wait()}")

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def work(models: Sequence[str]) -> None:
    """A worker: answers questions on its input. A question names model, size, seconds, and whether it is ``auto``."""
    import torch

    from benchmarks.shape import BEAUTY
    from benchmarks.steps import Steps, steps_of
    from recbench.config.compose import compose
    from recbench.experiment.busy_machine import work_of
    from recbench.experiment.context import RunContext

    shapes = {"demo": [], "beauty": [f"data.{key}={value}" for key, value in BEAUTY.items()]}
    made: dict[tuple[str, str], tuple[Steps, int]] = {}
    most = torch.get_num_threads()
    for line in sys.stdin:
        asked = json.loads(line)
        place = asked["model"], asked["size"]
        if place not in made:
            words = (f"model={place[0]}", "data=synthetic", *shapes[place[1]], "hardware=cpu", "tracking=off")
            config = compose(words)
            stage = RunContext.of(config)
            made[place] = steps_of(config, stage, STEPS, torch.device("cpu")), work_of(config, stage)
        steps, size = made[place]
        watch = None
        if asked["auto"]:
            watch = Watch(Machine(), size, most)
            if asked["alone"]:  # it began on a quiet machine
                torch.set_num_threads(min(most, choose(Seen(most, 0.0, 0.0), size, {}).threads or most))
        print(json.dumps({"seconds": _seconds_of_a_step(steps, asked["seconds"], watch)}), flush=True)


def _seconds_of_a_step(steps: Any, seconds: float, watch: Watch | None) -> float:
    """Mean over as many steps as fit, and at least the warm-up and one more."""
    n, began = 0, 0.0
    first = time.perf_counter() + (SETTLED if watch is not None and seconds else 0.0)
    while n < WARM_UP or time.perf_counter() < first:
        _step(steps, n, watch)
        n += 1
    warm, began = n, time.perf_counter()
    while n == warm or time.perf_counter() - began < seconds:
        _step(steps, n, watch)
        n += 1
    return (time.perf_counter() - began) / (n - warm)


def _step(steps: Any, n: int, watch: Watch | None) -> None:
    if watch is not None:
        watch.step()
    steps.take(n % len(steps.plan), lambda kind: nullcontext(), lambda kind: nullcontext())


@contextmanager
def loaded(n: int) -> Iterator[None]:
    """``n`` processes that compute without end."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        time.sleep(LEAST_SECONDS)
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def measure(
    models: Sequence[str], settings: Sequence[str], sizes: Sequence[str], seconds: float, load: int
) -> dict[str, Any]:
    """Seconds of a step by "setting model size condition"."""
    found: dict[str, Any] = {}
    for setting in settings:
        with ExitStack() as stack:
            pair = [Worker.start(setting, models) for _ in range(2)]
            for worker in pair:
                stack.callback(worker.end)
            for model in models:
                for size in sizes:
                    place = {"model": model, "size": size, "auto": setting == "auto"}
                    name = f"{setting}|{model}|{size}"
                    for worker in pair:  # data and model are made, unmeasured
                        _take([worker], 0.0, place)
                    found[f"{name}|alone"] = _take(pair[:1], seconds, place, alone=True)
                    found[f"{name}|two"] = _take(pair, seconds, place)
                    with loaded(load):
                        found[f"{name}|load"] = _take(pair[:1], seconds, place)
                    print(f"  {setting}, {model}, {size}: {found[f'{name}|alone']:.4f} s a step alone", file=sys.stderr)
    return found


def _take(which: Sequence[Worker], seconds: float, place: dict[str, Any], alone: bool = False) -> float:
    """Seconds of a step, of several workers at once that of the slowest."""
    for worker in which:
        worker.ask(**place, alone=alone, seconds=seconds)
    return max(worker.answer() for worker in which)


def measure_alone(
    models: Sequence[str], settings: Sequence[str], sizes: Sequence[str], seconds: float, rounds: int
) -> str:
    """The column ``alone`` as Markdown: the median over rounds in which the settings take turns, over that of the best setting."""
    lines = ["| model | size | " + " | ".join(settings) + " |", "|---|---|" + "---:|" * len(settings)]
    with ExitStack() as stack:
        workers = {setting: Worker.start(setting, models) for setting in settings}
        for worker in workers.values():
            stack.callback(worker.end)
        for model in models:
            for size in sizes:
                middle = _medians(workers, {"model": model, "size": size}, seconds, rounds)
                best = min(middle.values())
                lines.append(f"| {model} | {size} | " + " | ".join(f"{middle[s] / best:.2f}" for s in settings) + " |")
                print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def _medians(workers: dict[str, Worker], place: dict[str, Any], seconds: float, rounds: int) -> dict[str, float]:
    """Seconds of a step by setting."""
    found: dict[str, list[float]] = {setting: [] for setting in workers}
    for turn in range(rounds + 1):  # in the first one data and model are made, unmeasured
        for setting, worker in workers.items():
            asked = {**place, "auto": setting == "auto"}
            taken = _take([worker], seconds if turn else 0.0, asked, alone=True)
            if turn:
                found[setting].append(taken)
    return {setting: statistics.median(taken) for setting, taken in found.items()}


def table(
    found: dict[str, Any], models: Sequence[str], settings: Sequence[str], sizes: Sequence[str], load: int
) -> str:
    """The ratios as Markdown."""
    cores = len(os.sched_getaffinity(0))
    lines = ["| model | size | setting | alone | two | load |", "|---|---|---|---:|---:|---:|"]
    for model in models:
        for size in sizes:
            best = min(found[f"{setting}|{model}|{size}|alone"] for setting in settings)
            single = found.get(f"one thread|{model}|{size}|alone", best)
            fair = single * max(1.0, (load + 1) / cores)
            for setting in settings:
                own = {c: found[f"{setting}|{model}|{size}|{c}"] for c in ("alone", "two", "load")}
                cells = own["alone"] / best, own["two"] / own["alone"], own["load"] / fair
                lines.append(f"| {model} | {size} | {setting} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.busy", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--settings", default=",".join(SETTINGS))
    parser.add_argument("--seconds", type=float, default=1.2, help="of each measurement")
    parser.add_argument("--load", type=int, default=8, help="processes beside which a training is measured")
    parser.add_argument("--quick", action="store_true", help="the demo's size alone")
    parser.add_argument("--alone", type=int, default=0, metavar="ROUNDS", help="measure alone only, in rounds")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    models, settings = chosen.models.split(","), chosen.settings.split(",")
    if chosen.worker:
        work(models)
        return 0
    sizes = SIZES[:1] if chosen.quick else SIZES
    print(f"load at the start {os.getloadavg()[0]:.1f}, {len(os.sched_getaffinity(0))} cores", file=sys.stderr)
    if chosen.alone:
        print(measure_alone(models, settings, sizes, chosen.seconds, chosen.alone))
        return 0
    print(table(measure(models, settings, sizes, chosen.seconds, chosen.load), models, settings, sizes, chosen.load))
    return 0


if __name__ == "__main__":
    sys.exit(main())
