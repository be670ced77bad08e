"""Rows of many studies side by side on one machine that is lent for minutes: some on its GPU, some on its CPU cores, until the time is over.

    python -m experiments.gpu.many LIST --out OUT --seconds 500 --gpu 6 --cpu 8 [data.raw_dir=FOLDER ...]

A line of LIST is ``gpu|cpu STUDY ROW,ROW [key=value ...]``; a line that starts with # is a note. Each lane takes the next line of its kind. LIST is
read again whenever a lane is free, so lines may be added while it runs. OUT/many.jsonl says what each line took and how it ended.
At the end of the time, or as soon as there is a file OUT/stop, every study is asked to end, as with Ctrl+C: its run goes on from the last epoch when
the same line is started again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.slmrec_pretrained.on_gpu import GRACE

KINDS = ("gpu", "cpu")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="where runs, logs and many.jsonl are written")
    parser.add_argument("--seconds", type=float, required=True, help="end after so long")
    parser.add_argument("--gpu", type=int, default=0, metavar="N", help="lines at once on the GPU")
    parser.add_argument("--cpu", type=int, default=0, metavar="N", help="lines at once on CPU cores, one each")
    parser.add_argument("--wait", action="store_true", help="stay when all lines are done, since more may be added")
    parser.add_argument("words", nargs="*", metavar="key=value", help="keys of every run")
    return parser.parse_intermixed_args(given)


@dataclass(frozen=True)
class Line:
    """One line of the list: what one lane trains."""

    kind: str
    study: str
    rows: str
    words: tuple[str, ...] = ()


def lines_of(text: str) -> list[Line]:
    """The lines of a list. Raises SystemExit for one that cannot be read."""
    found = []
    for line in text.splitlines():
        kind, *rest = line.split() or ["#"]
        if kind.startswith("#"):
            continue
        if kind not in KINDS or len(rest) < 2:
            raise SystemExit(f"cannot read '{line}'; write: gpu|cpu STUDY ROW,ROW [key=value ...]")
        found.append(Line(kind, rest[0], rest[1], tuple(rest[2:])))
    return found


@dataclass
class Lane:
    """A line on its way."""

    line: Line
    process: subprocess.Popen[bytes]
    began: float


def start(line: Line, number: int, chosen: argparse.Namespace) -> Lane:
    """A study of its rows as a process of one thread."""
    out = chosen.out.absolute()
    words = [f"hardware={line.kind}", f"runs_dir={out / 'runs'}", f"cache_dir={out / 'cache'}", "tracking=off"]
    command = [sys.executable, "-m", "recbench", "study", line.study, "--rows", line.rows, "--jobs", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if line.kind == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    (out / "logs").mkdir(parents=True, exist_ok=True)
    with (out / "logs" / f"{number:03}-{line.kind}-{line.study}.log").open("wb") as log:
        log.write(f"{line}\n".encode())
        log.flush()
        process = subprocess.Popen(
            [*command, *words, *chosen.words, *line.words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    return Lane(line, process, time.monotonic())


def note(chosen: argparse.Namespace, lane: Lane, status: int | None) -> None:
    """A line of many.jsonl; the status is null where the time ended first."""
    said = {
        "kind": lane.line.kind,
        "study": lane.line.study,
        "rows": lane.line.rows,
        "status": status,
        "seconds": round(time.monotonic() - lane.began, 1),
    }
    print(json.dumps(said), flush=True)
    with (chosen.out / "many.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(said) + "\n")


def run(chosen: argparse.Namespace) -> int:
    """All lines, until the time is over. Returns the exit status: 1 where a line failed, 3 where the time ended first."""
    end = time.monotonic() + chosen.seconds - GRACE
    chosen.out.mkdir(parents=True, exist_ok=True)
    room = {"gpu": chosen.gpu, "cpu": chosen.cpu}
    given: set[Line] = set()
    lanes: list[Lane] = []
    failed = False
    while time.monotonic() < end and not (chosen.out / "stop").exists():
        for lane in [lane for lane in lanes if lane.process.poll() is not None]:
            lanes.remove(lane)
            note(chosen, lane, lane.process.returncode)
            failed |= lane.process.returncode != 0
        listed = lines_of(chosen.list.read_text(encoding="utf-8"))
        waiting = [line for line in listed if line not in given and room[line.kind]]
        if not lanes and not waiting and not chosen.wait:
            return int(failed)
        for line in waiting:
            if sum(lane.line.kind == line.kind for lane in lanes) < room[line.kind]:
                lanes.append(start(line, len(given), chosen))
                given.add(line)
        time.sleep(0.5)
    for lane in lanes:
        lane.process.send_signal(signal.SIGINT)
    last = time.monotonic() + GRACE
    for lane in lanes:
        try:
            lane.process.wait(max(0.1, last - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(lane.process.pid, signal.SIGKILL)
        note(chosen, lane, None)
    return 3


if __name__ == "__main__":
    sys.exit(run(arguments()))
