"""``make bench``, or ``python -m benchmarks.run``: SASRec of the rivals and of recbench on the same work, in turn, as ratios.

Stage "speed": rounds in which every system trains the same batches and ranks the whole catalogue, beside a floor of what this machine
measures right then. Stage "quality": every system, left to its own default batch, until a stated validation NDCG@10. Rivals, their
environments and tcmalloc are installed into ``.bench/`` when they are first needed, as is the data. The table goes to standard output; it and
every line that every system printed are kept in ``.bench/results/NAME/``, where the same command with ``--name NAME`` goes on after a stop.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import systems
from benchmarks.data import Sequences
from benchmarks.measure import Line, check_data, figures, launch
from benchmarks.record import Record
from benchmarks.report import section
from benchmarks.rivals.environments import ROOT, bench_folder, fetch_tcmalloc, tcmalloc
from benchmarks.task import SASRecTask

#: The NDCG@10 to reach, by (users, items) of the data: Beauty's, and that of the drawn data of its shape.
BARS = {(22_363, 12_101): 0.040, (22_363, 12_053): 0.040}
#: Epochs of a round where one takes seconds; the median leaves the first one's warming up out.
QUICK_EPOCHS = 3
#: More than anything trains before it reaches the bar or gives up.
EPOCHS = 1000
DEFAULT = ["recbole", "recbole+tcmalloc", "rectools", "rectools+tcmalloc", "one_negative", "ours"]


class Session:
    """One comparison: its data, its plan and its record."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.data = systems.data_folder(arguments.data)
        sequences = Sequences.open(self.data)
        length = arguments.max_length
        self.expected: Line = {
            **sequences.counts(),
            "test_digest": sequences.digest("test", length),
            "training_digest": sequences.digest("training", length),
        }
        self.bar = arguments.reach
        if self.bar is None:
            self.bar = BARS.get((self.expected["n_users"], self.expected["n_items"]), 0.0)
        name = arguments.name or f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
        self.record = Record(bench_folder("results", name))
        self.record.hold(self.plan())
        self.until = time.monotonic() + 60 * arguments.minutes if arguments.minutes else float("inf")

    def plan(self) -> dict[str, Any]:
        """What must be the same for runs to stand in one table."""
        task = asdict(SASRecTask.of(self.arguments, epochs=0, max_steps=0, reach=self.bar, give_up=0.0))
        kept = {key: self.expected[key] for key in ("n_users", "n_items", "training_targets", "test_digest")}
        return {"commit": commit(), "data": kept, "task": task, "max_steps": self.arguments.max_steps}

    def task(self, stage: str, name: str) -> SASRecTask:
        """The work of a system in a stage."""
        given = self.arguments
        if stage == "quality":
            limit = 0.0 if name == "ours" else given.give_up * self.first_total()
            return SASRecTask.of(given, epochs=EPOCHS, max_steps=0, batch_targets=0, reach=self.bar, give_up=limit)
        quick = systems.of(name).quick
        epochs, steps = (QUICK_EPOCHS, 0) if quick else (1, given.max_steps)
        return SASRecTask.of(given, epochs=epochs, max_steps=steps, reach=0.0, give_up=0.0)

    def first_total(self) -> float:
        """Seconds that ours took to the bar in the first round of the stage "quality"; 0 (nobody gives up) where it made none."""
        lines = self.record.read("quality", 1, "ours")
        found = figures(lines, self.bar, self.arguments.reach_split) if lines else None
        return (found.reach_total_seconds or 0.0) if found and not found.gave_up else 0.0

    def make(self, stage: str, number: int, name: str) -> None:
        """One run of a system, unless it is there or the time is up."""
        if self.record.read(stage, number, name) is not None or time.monotonic() > self.until:
            return
        print(f"{stage}, round {number}: {systems.title(name)}", file=sys.stderr, flush=True)
        started = systems.command(name, self.task(stage, name), self.data, str(self.expected["test_digest"]))
        lines = launch(started, bench_folder("logs") / f"{name}.txt")
        if name != "floor":
            check_data(lines, self.expected, name)
        self.record.write(stage, number, name, lines)

    def wanted(self) -> list[tuple[str, int, str]]:
        """(stage, round, system) of all runs, in their order."""
        given, found = self.arguments, []
        if given.only != "quality":
            for number in range(1, given.rounds + 1):
                found += [("speed", number, name) for name in [*given.systems, "floor"]]
        if given.only != "speed" and self.bar:
            # Ours first: the others give up after so many times its seconds. With tcmalloc only where that is asked for: this takes long.
            chosen = sorted(given.quality_systems or bare(given.systems), key=lambda name: name != "ours")
            for number in range(1, given.quality_rounds + 1):
                found += [("quality", number, name) for name in chosen]
        return found

    def text(self) -> str:
        """The report of what is there."""
        every = systems.names()
        return section(
            head=self.head(),
            speed=self.record.rounds("speed", [*every, "floor"]),
            quality=self.record.rounds("quality", every),
            bar=self.bar,
            split=self.arguments.reach_split,
        )

    def head(self) -> str:
        """What was measured, on what, by which command."""
        given, counts = self.arguments, self.expected
        what = "drawn data of Beauty's shape" if given.data is None else given.data.name.split(".")[0]
        words = " ".join(word.replace(str(given.data), "DATA") for word in sys.argv[1:])
        said = f"`python -m benchmarks.run {words}`".replace(" `", "`")
        lines = [
            f"## SASRec: rivals and recbench on {what}",
            "",
            f"Commit {commit()}, {datetime.now(UTC):%Y-%m-%d}, {said}. {counts['n_users']:,} users, {counts['n_items']:,} items, "
            f"{counts['training_targets']:,} training targets, {counts['test_cases']:,} test cases; {given.hidden_size} wide, "
            f"{given.n_layers} blocks, {given.n_heads} heads, dropout {given.dropout:g}, length {given.max_length}, "
            f"{given.batch_targets:,} targets a step, {given.threads} threads, seen items kept.",
        ]
        if given.data is None:
            lines += [
                "",
                "**Drawn data, not Beauty**: the sizes are its, the sequences are not. Give DATA=FILE for the review file.",
            ]
        return "\n".join(lines)


def bare(chosen: list[str]) -> list[str]:
    """The systems as installed, each once."""
    return list(dict.fromkeys(name.removesuffix(systems.PRELOADED) for name in chosen))


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line. Exits with one line for what cannot be combined or is not here."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    add = parser.add_argument
    add(
        "--data", type=Path, help="prepared folder, or an Amazon 5-core review file (default: drawn, of Beauty's shape)"
    )
    add("--name", help="of this comparison; one that was begun goes on (default: the time)")
    add("--rounds", type=int, default=3, help="of the stage speed: every system once a round")
    add("--systems", nargs="+", choices=systems.names(), default=DEFAULT)
    add("--max-steps", type=int, default=20, help="steps of a slow system's epoch; the rest is extrapolated (0: whole)")
    add("--only", choices=("speed", "quality"), help="one stage alone")
    add(
        "--quality-systems",
        nargs="+",
        choices=systems.names(),
        help="of the stage quality (default: all, as installed)",
    )
    add("--quality-rounds", type=int, default=1)
    add(
        "--give-up",
        type=float,
        default=10.0,
        help="a rival stops short of the bar after so many times our seconds (0: never)",
    )
    add(
        "--minutes",
        type=float,
        default=0.0,
        help="start nothing more after so many minutes; go on later with --name (0: no limit)",
    )
    SASRecTask.add_arguments(parser, but=frozenset({"max_steps", "seen", "epochs", "give_up", "reach"}))
    add(
        "--reach",
        type=float,
        help="NDCG@10 of the stage quality (default: .040 on Beauty; on other data there is no such stage)",
    )
    given = parser.parse_args(words)
    if given.minutes and not given.name:
        parser.error("--minutes stops in between: give the comparison a --name to go on with")
    if any(name.endswith(systems.PRELOADED) for name in given.systems) and not (tcmalloc() or fetch_tcmalloc()):
        print("tcmalloc is neither here nor to be had from apt-get: left out", file=sys.stderr)
        given.systems = [name for name in given.systems if not name.endswith(systems.PRELOADED)]
    return given


def commit() -> str:
    """The commit of this checkout, with "+changes" if files differ from it; "unknown" outside a repository."""
    said = [
        subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain"])
    ]
    if said[0].returncode:
        return "unknown"
    return said[0].stdout.strip() + ("+changes" if said[1].stdout.strip() else "")


def main() -> None:
    session = Session(parse())
    wanted = session.wanted()
    for run in wanted:
        session.make(*run)
    text = session.text()
    (session.record.folder / "report.md").write_text(text + "\n")
    print(text)
    missing = sum(session.record.read(*run) is None for run in wanted)
    where = session.record.folder
    left = f"; {missing} of {len(wanted)} runs are still to be made: --name {where.name}" if missing else ""
    print(f"kept in {where.relative_to(ROOT)}{left}", file=sys.stderr)


if __name__ == "__main__":
    main()
