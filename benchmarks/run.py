"""``python -m benchmarks.run sasrec --data-folder FOLDER``: rivals and ours on the same work, in turn, as ratios.

Results go to standard output and, with every line that every system printed, to ``.bench/results/``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.data import Sequences, write_recbole
from benchmarks.measure import Command, Figures, Line, check_data, figures, launch
from benchmarks.report import machines, table
from benchmarks.rivals.environments import ROOT, bench_folder, clean_environ, environment, tcmalloc
from benchmarks.task import SASRecTask

SYSTEMS = ("recbole", "recbole+tcmalloc", "ours", "ours+tcmalloc")


def command(system: str, task: SASRecTask, data_folder: Path, digest: str) -> Command:
    """How to start a system on a task."""
    base, _, preload = system.partition("+")
    environ = {**clean_environ(), "OMP_NUM_THREADS": str(task.threads), "PYTHONPATH": str(ROOT)}
    if preload:
        environ["LD_PRELOAD"] = tcmalloc() or ""
    if base == "ours":
        environ["PYTHONPATH"] += f":{ROOT / 'src'}"
        program = [sys.executable, "-m", "benchmarks.ours", "--data", str(data_folder)]
    else:
        atomic = bench_folder("data", digest, "recbole")
        if not (atomic / "data" / "data.inter").is_file():
            write_recbole(Sequences.open(data_folder), atomic, "data")
        program = [
            str(environment("recbole")),
            "-m",
            "benchmarks.rivals.recbole_sasrec",
            "--data",
            str(atomic),
            "--name",
            "data",
        ]
        program += ["--scratch", str(bench_folder("scratch", "recbole"))]
    return Command([*program, *task.as_arguments()], environ)


def task_of(system: str, arguments: argparse.Namespace, bar: float) -> SASRecTask:
    """The task of a system: the same for all but for how long each trains (and, if asked, for our batch)."""
    if not system.startswith("ours"):
        return SASRecTask.of(arguments, epochs=arguments.reach_after or arguments.epochs, reach=arguments.reach)
    batch = arguments.ours_batch_targets or arguments.batch_targets
    return SASRecTask.of(
        arguments, epochs=arguments.ours_epochs or arguments.epochs, max_steps=0, reach=bar, batch_targets=batch
    )


def run(arguments: argparse.Namespace) -> tuple[dict[str, list[Figures]], list[dict[str, list[Line]]]]:
    """All rounds: the figures of each system by round, and all lines."""
    folder = arguments.data_folder.resolve()
    sequences = Sequences.open(folder)
    expected = {**sequences.counts(), "test_digest": sequences.digest("test", arguments.max_length)}
    expected["training_digest"] = sequences.digest("training", arguments.max_length)
    logs = bench_folder("logs")
    found: dict[str, list[Figures]] = {name: [] for name in arguments.systems}
    lines: list[dict[str, list[Line]]] = []
    for number in range(1, arguments.rounds + 1):
        lines.append({})
        bar = arguments.reach
        for system in arguments.systems:
            task = task_of(system, arguments, bar)
            print(f"round {number} of {arguments.rounds}: {system}", file=sys.stderr)
            given = launch(command(system, task, folder, str(expected["test_digest"])), logs / f"{system}.txt")
            check_data(given, expected, system)
            if arguments.reach_after and not system.startswith("ours"):
                bar = max(bar, _last_ndcg(given, arguments.reach_split))
                found[system].append(figures(given, _last_ndcg(given, arguments.reach_split), arguments.reach_split))
            else:
                found[system].append(figures(given, bar, arguments.reach_split))
            lines[-1][system] = given
    return found, lines


def _last_ndcg(lines: list[Line], split: str) -> float:
    return float([line for line in lines if line["event"] == "evaluation" and line["split"] == split][-1]["ndcg@10"])


def parse() -> argparse.Namespace:
    """The command line. Exits with one line for what cannot be combined or is not here."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    parser.add_argument("task", choices=["sasrec"])
    parser.add_argument(
        "--data-folder", type=Path, required=True, help="prepared data set: items.npy, offsets.npy, timestamps.npy"
    )
    parser.add_argument("--rounds", type=int, default=3, help="A/B/A/B: every system once a round")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=["recbole", "recbole+tcmalloc", "ours"])
    parser.add_argument(
        "--max-steps", type=int, default=0, help="cut the rivals' epochs and extrapolate (0: whole epochs)"
    )
    parser.add_argument(
        "--reach-after", type=int, default=0, help="rivals train so many epochs; ours until it has their NDCG@10"
    )
    parser.add_argument("--ours-epochs", type=int, default=0, help="at most so many for ours (0: as --epochs)")
    parser.add_argument(
        "--ours-batch-targets", type=int, default=0, help="another batch for ours (0: as --batch-targets)"
    )
    SASRecTask.add_arguments(parser, but=frozenset({"max_steps", "seen"}))
    arguments = parser.parse_args()
    if arguments.max_steps and (arguments.reach or arguments.reach_after):
        parser.error(
            "--max-steps cuts epochs, so no NDCG@10 can be reached: leave it out with --reach and --reach-after"
        )
    if arguments.reach and arguments.reach_after:
        parser.error("--reach gives the bar, --reach-after lets the rivals set it: use one of them")
    if any(system.endswith("+tcmalloc") for system in arguments.systems) and tcmalloc() is None:
        parser.error("tcmalloc is not here: run python -m benchmarks.rivals, or leave the systems with +tcmalloc out")
    # The rivals come first: with --reach-after they set the bar of the round.
    arguments.systems.sort(key=lambda name: name.startswith("ours"))
    return arguments


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
    arguments = parse()
    found, lines = run(arguments)
    base = "ours" if "ours" in found else arguments.systems[-1]
    moment = datetime.now(UTC)
    words = [word.replace(str(arguments.data_folder), "FOLDER") for word in sys.argv[1:]]
    when = f"commit {commit()}, {moment:%Y-%m-%d %H:%M} UTC, {arguments.rounds} rounds"
    head = f"`python -m benchmarks.run {' '.join(words)}`, {when}"
    text = "\n\n".join([head, table(found, base), machines(lines[-1])])
    print(text)
    results = bench_folder("results") / f"{moment:%Y%m%dT%H%M%S}.json"
    record = {
        "head": head,
        "figures": {name: [asdict(f) for f in given] for name, given in found.items()},
        "lines": lines,
    }
    results.write_text(json.dumps(record, indent=1))
    results.with_suffix(".md").write_text(text + "\n")
    print(f"kept in {results.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
