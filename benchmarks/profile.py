"""``python -m benchmarks.profile sasrec``: where the time of one training step goes, by kind of operation, with the floor beside it.

    python -m benchmarks.profile MODEL [key=value ...] [--steps 5] [--device cpu|cuda] [--threads 2]

``key=value`` are words of recbench's own command line; without ``data=`` the data are drawn with the shape of Amazon Beauty. The floor of an
operation is what it must compute and move over what this machine measured just before: products at the speed of large ones, softmax at that of a
softmax, all else at that of copies (of copies in cache where the operands are small). It is a floor of the operations as they are called: fusing
two of them would lower it. "between" is what torch and Python spend from one operation to the next; on a GPU it is the time without a kernel.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from contextlib import nullcontext
from typing import Any

import torch
from torch.autograd import DeviceType

from benchmarks.floor import Speeds, measure_speeds
from benchmarks.measure import NO_BFLOAT16
from benchmarks.operations import DATA, KINDS, MARK, OPTIMISER, PYTHON, Counting, Need, Scopes, kind_of
from benchmarks.shape import BEAUTY
from benchmarks.steps import Steps, steps_of
from benchmarks.task import processor

BACKWARD = "autograd::engine::evaluate_function"
WARM_UP = 2


class Kinds:
    """Seconds and calls by kind, from the events of a profile. On a CPU an event's own time counts, on a GPU that of its kernels."""

    def __init__(self, events: list[Any], on_gpu: bool) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self.forward_scope: dict[int, str | None] = {}
        own = [event for event in events if event.device_type == DeviceType.CPU]
        for event in sorted(own, key=lambda e: e.time_range.start):
            if event.sequence_nr >= 0 and not _backward(event):
                self.forward_scope[event.sequence_nr] = _scope(event)
        for event in own:
            seconds = (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
            kind = self._kind(event)
            self.seconds[kind] += seconds
            # An operation within another of its kind is how that one works.
            within = _name(event.cpu_parent).startswith("aten::") and self._kind(event.cpu_parent) == kind
            self.calls[kind] += event.name.startswith("aten::") and not within

    def _kind(self, event: Any) -> str:
        node, scope = _backward(event), _scope(event)
        if not event.name.startswith("aten::"):
            # Gathering a batch is NumPy's work, and no operation of torch.
            return scope if scope in (DATA, OPTIMISER) else PYTHON
        if node is not None and scope is None:
            scope = self.forward_scope.get(node.sequence_nr)
        return kind_of(event.name.removeprefix("aten::"), scope)


def _name(event: Any) -> str:
    return "" if event is None else str(event.name)


def _backward(event: Any) -> Any:
    """The event of the backward pass around this one, if there is one."""
    while event is not None and not event.name.startswith(BACKWARD):
        event = event.cpu_parent
    return event


def _scope(event: Any) -> str | None:
    while event is not None:
        if event.name.startswith(MARK):
            return str(event.name.removeprefix(MARK))
        event = event.cpu_parent
    return None


def profiled(steps: Steps, scopes: Scopes, count: int) -> tuple[Kinds, float]:
    """(seconds by kind of one step, mean; seconds of a step under the profiler)."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    on_gpu = steps.device.type == "cuda"
    if on_gpu:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        started = time.perf_counter()
        for index in range(WARM_UP, WARM_UP + count):
            with torch.profiler.record_function("step"):
                steps.take(index, scopes.section, scopes.section)
                wait(steps.device)
        seconds = (time.perf_counter() - started) / count
    kinds = Kinds(list(profile.events()), on_gpu)
    for name in kinds.seconds:
        kinds.seconds[name] /= count
    for name in kinds.calls:
        kinds.calls[name] = round(kinds.calls[name] / count)
    return kinds, seconds


def counted(steps: Steps, scopes: Scopes, speeds: Speeds, count: int) -> dict[str, Need]:
    """What the operations of one step need, mean over the same steps."""
    counting = Counting(scopes, speeds)
    with counting:
        for index in range(WARM_UP, WARM_UP + count):
            steps.take(index, scopes.section, scopes.section)
    for need in counting.needs.values():
        need.seconds /= count
        for counter in (need.flop, need.softmax):
            for key in counter:
                counter[key] //= count
        need.bytes_far //= count
        need.bytes_near //= count
    return counting.needs


def undisturbed(steps: Steps, count: int) -> float:
    """Seconds of a step without profiler and scopes: the mean of the same steps, which may differ a lot from each other, as TIGER's windows do."""
    nothing = nullcontext
    found = []
    for index in range(WARM_UP + count):
        wait(steps.device)
        started = time.perf_counter()
        steps.take(index, nothing, nothing)
        wait(steps.device)
        found.append(time.perf_counter() - started)
    return statistics.fmean(found[WARM_UP:])


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def table(kinds: Kinds, needs: dict[str, Need], step: float) -> str:
    """Markdown, a row a kind; the last column is the time above the floor, whose largest entry is the gap to close."""
    seconds = dict(kinds.seconds)
    total = sum(seconds.values())
    lines = ["| kind | ms | share | calls | needs | floor, ms | above it, ms |", "|---|---|---|---|---|---|---|"]
    for kind in KINDS:
        took, need = seconds.get(kind, 0.0), needs.get(kind, Need())
        if not took and not need.seconds:
            continue
        cells = [kind, _ms(took), f"{took / total:.0%}", str(kinds.calls.get(kind, 0)), _needs(need), _ms(need.seconds)]
        lines.append("| " + " | ".join([*cells, _ms(took - need.seconds)]) + " |")
    floor = sum(need.seconds for need in needs.values())
    lines.append(f"| all | {_ms(total)} | | {sum(kinds.calls.values())} | | {_ms(floor)} | {_ms(total - floor)} |")
    gap = max(KINDS, key=lambda kind: seconds.get(kind, 0.0) - needs.get(kind, Need()).seconds)
    above = seconds[gap] - needs.get(gap, Need()).seconds
    lines += [
        "",
        f"Undisturbed, a step takes {1000 * step:.1f} ms, {step / floor:.1f} times the floor. Largest gap: {gap}, {_ms(above)} ms.",
    ]
    return "\n".join(lines)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f}"


def _needs(need: Need) -> str:
    said = [f"{value / 1e9:.2f} GFLOP {name}" for name, value in need.flop.items() if value]
    said += [f"softmax of {value / 1e6:.1f} M {name}" for name, value in need.softmax.items() if value]
    moved = need.bytes_far + need.bytes_near
    return ", ".join([*said, f"{moved / 1e6:.0f} MB"])


def words_of(model: str, words: list[str]) -> tuple[str, ...]:
    """The command line of the run whose step is measured."""
    drawn = (
        []
        if any(word.startswith("data=") for word in words)
        else [f"data.{key}={value}" for key, value in BEAUTY.items()]
    )
    return (f"model={model}", "tracking=off", *drawn, *words)


def main() -> None:
    from recbench.core.errors import UserError

    parser = argparse.ArgumentParser(prog="benchmarks.profile", description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a registered model, such as sasrec, tim4rec, srgnn, tiger, slmrec")
    parser.add_argument("words", nargs="*", help="key=value, as on recbench's command line")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_intermixed_args()
    torch.set_num_threads(given.threads)
    try:
        run(given)
    except UserError as error:
        sys.exit(f"error: {error}")


def run(given: argparse.Namespace) -> None:
    from recbench.config.compose import compose
    from recbench.experiment.context import RunContext

    device = torch.device(given.device)
    hardware = "gpu" if device.type == "cuda" else "cpu"
    config = compose(words_of(given.model, [f"hardware={hardware}", *given.words]))
    stage = RunContext.of(config)
    torch.manual_seed(config.seed)
    steps = steps_of(config, stage, WARM_UP + given.steps, device)
    width = getattr(config.model, "hidden_size", 64)
    speeds = measure_speeds(config.training.batch_size, width, stage.data.n_items + 1, device)
    step = undisturbed(steps, given.steps)
    scopes = Scopes(steps.learner)
    kinds, disturbed = profiled(steps, scopes, given.steps)
    needs = counted(steps, scopes, speeds, given.steps)
    if device.type == "cuda":
        # Here "between" is when no kernel ran.
        kinds.seconds[PYTHON] = max(0.0, step - sum(s for kind, s in kinds.seconds.items() if kind != PYTHON))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, {given.threads} threads"
    targets = statistics.mean(steps.targets(index) for index in range(WARM_UP, WARM_UP + given.steps))
    print(
        f"{' '.join([given.model, *given.words])}: {targets:.0f} targets a step, {stage.data.n_items:,} items; torch {torch.__version__}, {name}"
    )
    print(speeds_line(speeds))
    print(f"under the profiler a step takes {1000 * disturbed:.1f} ms; the rows are from there\n")
    print(table(kinds, needs, step))


def speeds_line(speeds: Speeds) -> str:
    """What the machine does, in one line; bfloat16 where it has it."""

    def both(kind: str, unit: str, decimals: int) -> str:
        found = [
            (getattr(speeds, f"{kind}_{name}"), word) for name, word in (("fp32", "float32"), ("bf16", "bfloat16"))
        ]
        return (
            ", ".join(f"{value / 1e9:.{decimals}f} {word}" for value, word in found if value is not None) + f" {unit}"
        )

    said = (
        f"products {both('product', 'GFLOP/s', 0)}; logits' product {both('logits', 'GFLOP/s', 0)}; softmax {both('softmax', 'G values/s', 2)}; "
        f"copies {speeds.copy / 1e9:.0f} GB/s, in cache {speeds.copy_cached / 1e9:.0f}"
    )
    return said if speeds.bfloat16 else f"{said}; {NO_BFLOAT16}"


if __name__ == "__main__":
    main()
