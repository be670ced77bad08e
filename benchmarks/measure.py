"""Runs one system in a process of its own and boils its JSON lines down to figures."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Line = dict[str, Any]

#: Said where the lines in bfloat16 are left out.
NO_BFLOAT16 = (
    "no native bfloat16 products on this processor: its lines are left out, for emulating them would take minutes"
)


@dataclass(frozen=True)
class Command:
    """How to start a system: arguments and the whole environment of the process."""

    arguments: list[str]
    environ: dict[str, str]


def launch(command: Command, log: Path) -> list[Line]:
    """Run a system to its end; its lines, each with ``at``, the seconds since its start, and one more of event "exit".

    That one has the share of all processors that other processes took meanwhile: where it is large, the round is worth
    nothing.

    Standard error goes to ``log``. Raises RuntimeError with the end of that log if the system fails.

    Memory is that of the finished process as the kernel counted it. A child starts with its parent's count, so the
    process that calls this must stay small: no numpy beyond reading arrays, no torch.
    """
    lines: list[Line] = []
    started, busy, moment = time.perf_counter(), busy_seconds(), time.time()
    with log.open("w") as errors:
        child = subprocess.Popen(
            command.arguments,
            env=command.environ,
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert child.stdout is not None
        for text in child.stdout:
            lines += _parsed(text, time.perf_counter() - started)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        tail = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-15:])
        raise RuntimeError(f"{' '.join(command.arguments)} ended with {child.returncode}; the end of {log}:\n{tail}")
    wall, own = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
    others = max(0.0, busy_seconds() - busy - own) / (wall * (os.cpu_count() or 1))
    memory = usage.ru_maxrss * 1024
    used = {"peak_rss_bytes": memory, "cpu_seconds": own, "others_share": others}
    return [*lines, {"event": "exit", "at": wall, "began": moment, **used}]


def busy_seconds() -> float:
    """Processor seconds used on this machine since its start, with those its host took away; 0 if unknown."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _parsed(text: str, at: float) -> list[Line]:
    """The line with its time, or nothing where a library prints to standard output what is no JSON."""
    if not text.startswith("{"):
        return []
    line = {**json.loads(text), "at": at}
    _progress(line)
    return [line]


def _progress(line: Line) -> None:
    """One line a finished epoch or evaluation on standard error: full epochs take minutes."""
    if line["event"] == "epoch":
        cut = f" (from {line['steps']} of {line['steps_of_epoch']} steps)" if line["extrapolated"] else ""
        print(
            f"    epoch {line['epoch']}: {line['epoch_seconds']:.2f} s{cut}, loss {line['loss']:.4f}", file=sys.stderr
        )
    if line["event"] == "evaluation":
        print(
            f"    {line['split']}: {line['seconds']:.2f} s, NDCG@10 {line['ndcg@10']:.4f}, HR@10 {line['hr@10']:.4f}",
            file=sys.stderr,
        )


@dataclass(frozen=True)
class Figures:
    """What one round of one system gave. Seconds and bytes.

    reach_training_seconds, reach_total_seconds: until the bar; None where none was asked for. gave_up: it stopped before the bar, and these
    are what it had spent by then.
    """

    epoch_seconds: float
    extrapolated: bool
    evaluation_seconds: float
    peak_rss_bytes: int
    startup_seconds: float
    others_share: float
    reach_training_seconds: float | None
    reach_total_seconds: float | None
    gave_up: bool
    epochs: int
    steps: int
    validation_ndcg: float
    test_ndcg: float
    test_hr: float


def figures(lines: list[Line], reach: float = 0.0, reach_split: str = "validation") -> Figures:
    """Medians over the epochs of a round; the time to NDCG@10 >= ``reach`` on ``reach_split`` (0: not asked for).

    The training time to that is the sum of the epochs; the total runs from the start of the process and leaves out the
    evaluations of the test part, which nobody makes who is not benchmarking, and what a system itself reports as left out.
    """
    epochs = [line for line in lines if line["event"] == "epoch"]
    evaluations = [line for line in lines if line["event"] == "evaluation"]
    last = {line["split"]: line for line in evaluations}
    training, total, gave_up = _reached(lines, reach, reach_split) if reach else (None, None, False)
    return Figures(
        epoch_seconds=statistics.median(line["epoch_seconds"] for line in epochs),
        extrapolated=any(line["extrapolated"] for line in epochs),
        evaluation_seconds=statistics.median(line["seconds"] for line in evaluations),
        peak_rss_bytes=only(lines, "exit")["peak_rss_bytes"],
        others_share=only(lines, "exit")["others_share"],
        startup_seconds=only(lines, "ready")["at"],
        reach_training_seconds=training,
        reach_total_seconds=total,
        gave_up=gave_up,
        epochs=len(epochs),
        steps=sum(line["steps"] for line in epochs),
        validation_ndcg=last["validation"]["ndcg@10"],
        test_ndcg=last["test"]["ndcg@10"],
        test_hr=last["test"]["hr@10"],
    )


def _reached(lines: list[Line], reach: float, split: str) -> tuple[float, float, bool]:
    """(seconds of training, all seconds, False) until the bar; with True those until the last evaluation of the split, if it was not reached."""
    training = left_out = total = 0.0
    for line in lines:
        if line["event"] == "epoch":
            training += line["seconds"]
            left_out += line.get("left_out", 0.0)
        if line["event"] == "evaluation":
            left_out += line["seconds"] if line["split"] == "test" else 0.0
            if line["split"] == split:
                total = line["at"] - left_out
                if line["ndcg@10"] >= reach:
                    return training, total, False
    return training, total, True


def only(lines: list[Line], event: str) -> Line:
    """The one line of an event. Raises RuntimeError if there is none or more than one."""
    found = [line for line in lines if line["event"] == event]
    if len(found) != 1:
        raise RuntimeError(f"a system printed {len(found)} lines of the event '{event}' instead of one")
    return found[0]


def check_data(lines: list[Line], expected: Line, system: str) -> None:
    """Raises RuntimeError if a system did not work on the expected data: figures on other data are not comparable.

    Targets that it says it leaves out, and items that it says it cannot know, count as its own: the report names them.
    """
    given = dict(only(lines, "data"))
    missing = [key for key in ("training_targets", "test_cases") if key not in given]
    for key, owned in (("training_targets", "targets_left_out"), ("n_items", "unknown_items")):
        if key in given:
            given[key] += given.get(owned, 0)
    wrong = {key: (given[key], value) for key, value in expected.items() if key in given and given[key] != value}
    if wrong or missing:
        raise RuntimeError(f"{system} did not work on the same data; (its, ours): {wrong}; not reported: {missing}")
