"""What preparing costs as a log grows to a hundred million events in parts: seconds, and the peak of all memory of the process.

    python -m benchmarks.large_log                     # 1e6, 1e7 and 1e8 events, in 2, 20 and 200 Parquet parts
    python -m benchmarks.large_log --events 1000000    # a quick look

A log is a folder as Spark leaves it: a part for each stretch of time, so that the events of a user lie in many parts, and ``_SUCCESS`` beside them.
Users and items are words, drawn with a skew; there are a hundred events a user and a hundred thousand items. Each size is prepared by a
process of its own. Peak: VmHWM of the kernel, mapped pages of files included. Needs about 12 GB of disk for 1e8 events; it is given back.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.scale_work import Memory, status

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".bench" / "large_log"
EVENTS_OF_A_PART, EVENTS_OF_A_USER, N_ITEMS = 500_000, 100, 100_000
FIRST_SECOND, SECONDS_OF_A_PART = 1_577_836_800, 43_200
SIZES = (1_000_000, 10_000_000, 100_000_000)
GIB = 2**30


def write_log(folder: Path, n_events: int, seed: int = 0) -> int:
    """A folder of Parquet parts with user, item and time; returns how many parts."""
    import polars as pl

    folder.mkdir(parents=True)
    n_users, n_parts = max(1, n_events // EVENTS_OF_A_USER), -(-n_events // EVENTS_OF_A_PART)
    for number in range(n_parts):
        draw = np.random.default_rng((seed, n_events, number))
        n = min(EVENTS_OF_A_PART, n_events - number * EVENTS_OF_A_PART)
        begin = FIRST_SECOND + number * SECONDS_OF_A_PART
        part = pl.DataFrame(
            {
                "user": (draw.random(n) ** 1.5 * n_users).astype(np.int64),
                "item": (draw.random(n) ** 3 * N_ITEMS).astype(np.int64),
                "time": np.sort(draw.integers(begin, begin + SECONDS_OF_A_PART, n)),
            }
        )
        named = part.with_columns(pl.format("u{}", "user").alias("user"), pl.format("i{}", "item").alias("item"))
        named.write_parquet(folder / f"part-{number:05d}.snappy.parquet", compression="snappy")
    (folder / "_SUCCESS").touch()
    return n_parts


def prepare_here(log: Path, cache: Path) -> None:
    """Prepare the log in this process, and print one line of JSON."""
    from recbench.data.sources.table_config import Columns, TableConfig
    from recbench.data.store import prepare

    memory = Memory()
    memory.start()
    started, cpu = time.perf_counter(), time.process_time()
    data = prepare(TableConfig(path=str(log), columns=Columns(timestamp="time"), k_core=5), cache)
    found = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": max(status("VmHWM"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024),
        "own_peak_bytes": memory.own,
        "events": data.n_interactions,
        "users": data.n_users,
        "items": data.n_items,
        "fingerprint": data.fingerprint,
    }
    print(json.dumps(found))


def measure(n_events: int, place: Path, keep: bool) -> dict[str, float]:
    """One size, in a process of its own. Raises RuntimeError with the end of its output if it fails."""
    log, cache = place / f"{n_events}.parquet", place / f"{n_events}.cache"
    if not (log / "_SUCCESS").is_file():
        shutil.rmtree(log, ignore_errors=True)
        print(f"writing {n_events:,} events", file=sys.stderr)
        write_log(log, n_events)
    shutil.rmtree(cache, ignore_errors=True)
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    program = [sys.executable, "-m", "benchmarks.large_log", "--prepare", str(log), str(cache)]
    done = subprocess.run(program, env=environ, capture_output=True, text=True, cwd=ROOT, check=False)
    if not keep:
        shutil.rmtree(log)
    shutil.rmtree(cache, ignore_errors=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(program)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "parts": -(-n_events // EVENTS_OF_A_PART)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.large_log", description=__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where logs and prepared data are written")
    parser.add_argument("--keep", action="store_true", help="leave the logs there")
    parser.add_argument("--prepare", type=Path, nargs=2, metavar=("LOG", "CACHE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.prepare:
        return prepare_here(*asked.prepare)
    print("| events | parts | users | items | seconds | CPU seconds | peak GiB | of the process alone |")
    print("|---|---|---|---|---|---|---|---|")
    for n_events in asked.events:
        found = measure(n_events, asked.folder, asked.keep)
        print(
            f"| {n_events:,} | {found['parts']} | {found['users']:,} | {found['items']:,} | {found['seconds']:,.1f} | {found['cpu_seconds']:,.1f} | "
            f"{found['peak_bytes'] / GIB:.2f} | {found['own_peak_bytes'] / GIB:.2f} |",
            flush=True,
        )
        print(f"{n_events:,}: fingerprint {found['fingerprint']}", file=sys.stderr)


if __name__ == "__main__":
    main()
