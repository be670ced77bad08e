"""``python -m benchmarks.raw_parse FILE_5.json.gz``: raw 2018 reviews to prepared arrays, against the least work.

The least is ``zcat FILE | wc -c`` plus a bare Polars parse of the four wanted fields from the unpacked file. The file
is repeated, with users and items renamed in each copy, until it is large enough to time. Each measurement is a process
of its own; the three take turns. Quoted is ours over (zcat + parse), by round.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Command, launch, only
from benchmarks.rivals.environments import ROOT, bench_folder, clean_environ
from benchmarks.task import emit

SUFFIX = "_5.json.gz"


def repeated(source: Path, megabytes: int) -> Path:
    """The source repeated to about so many megabytes unpacked, as ``.bench/raw/<size>/<its name>``; made once."""
    target = bench_folder("raw", f"{megabytes}MB") / source.name
    if target.is_file():
        return target
    # Empty metadata: this is about reviews, and a missing file would be looked for on the network.
    with gzip.open(target.with_name(f"meta_{source.name.removesuffix(SUFFIX)}.json.gz"), "wb"):
        pass
    text = gzip.decompress(source.read_bytes())
    if not text.endswith(b"\n"):
        text += b"\n"
    partial = target.with_suffix(".part")
    with gzip.open(partial, "wb", compresslevel=6) as out:
        for copy in range(max(1, round(megabytes * 1e6 / len(text)))):
            mark = b'": "%d-' % copy
            renamed = text.replace(b'"reviewerID": "', b'"reviewerID' + mark).replace(b'"asin": "', b'"asin' + mark)
            out.write(renamed)
    partial.replace(target)
    return target


def zcat_seconds(source: Path) -> float:
    """Seconds of ``zcat FILE | wc -c``."""
    started = time.perf_counter()
    with subprocess.Popen(["zcat", str(source)], stdout=subprocess.PIPE) as unpack:
        subprocess.run(["wc", "-c"], stdin=unpack.stdout, stdout=subprocess.DEVNULL, check=True)
    if unpack.returncode:
        raise RuntimeError(f"zcat failed on {source}")
    return time.perf_counter() - started


def bare_parse(unpacked: Path) -> None:
    """Child process: parse the four fields, print seconds and rows."""
    import polars as pl

    schema = {"reviewerID": pl.String, "asin": pl.String, "overall": pl.Float32, "unixReviewTime": pl.Int64}
    started = time.perf_counter()
    rows = pl.read_ndjson(unpacked, schema=schema).height
    emit("end", seconds=time.perf_counter() - started, rows=rows)


def prepare_ours(source: Path) -> None:
    """Child process: recbench's prepare into an empty cache, print seconds and counts."""
    import polars  # noqa: F401  # loaded before the clock starts, as in bare_parse

    from recbench.data.sources.amazon import AmazonConfig
    from recbench.data.store import prepare

    config = AmazonConfig(
        name="amazon", version="2018", category=source.name.removesuffix(SUFFIX), raw_dir=str(source.parent), k_core=5
    )
    with tempfile.TemporaryDirectory(dir=bench_folder("scratch")) as cache:
        started = time.perf_counter()
        data = prepare(config, Path(cache))
        seconds = time.perf_counter() - started
        emit("end", seconds=seconds, rows=data.n_interactions, users=data.n_users, items=data.n_items)


def child(part: str, file: Path) -> dict[str, float]:
    """Run one of the child processes above; its "end" line with the peak memory of the process."""
    environ = {**clean_environ(), "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    command = Command([sys.executable, "-m", "benchmarks.raw_parse", str(file), "--part", part], environ)
    lines = launch(command, bench_folder("logs") / f"raw_parse_{part}.txt")
    return {**only(lines, "end"), "peak_rss_bytes": only(lines, "exit")["peak_rss_bytes"]}


def compare(source: Path, rounds: int) -> None:
    """Print one JSON line a round and the ratio with its spread."""
    unpacked = bench_folder("scratch") / source.name.removesuffix(".gz")
    with gzip.open(source) as packed, unpacked.open("wb") as out:
        shutil.copyfileobj(packed, out)
    size = unpacked.stat().st_size
    ratios = []
    for number in range(1, rounds + 1):
        zcat, bare, ours = zcat_seconds(source), child("bare", unpacked), child("ours", source)
        ratios.append(ours["seconds"] / (zcat + bare["seconds"]))
        figures = {"zcat_seconds": zcat, "parse_seconds": bare["seconds"], "ours_seconds": ours["seconds"]}
        kept = {"raw_rows": bare["rows"], **{key: ours[key] for key in ("rows", "users", "items", "peak_rss_bytes")}}
        print(json.dumps({"round": number, **figures, "ratio": ratios[-1], **kept}), flush=True)
    unpacked.unlink()
    spread = f"{statistics.median(ratios):.2f}x [{min(ratios):.2f} .. {max(ratios):.2f}]"
    what = f"{source.name}, {size / 1e6:.0f} MB unpacked"
    print(f"{what}: prepare takes {spread} of zcat plus a bare Polars parse, {rounds} rounds")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.raw_parse", description=__doc__)
    parser.add_argument("file", type=Path, help="raw reviews of the 2018 release, CATEGORY_5.json.gz")
    parser.add_argument("--megabytes", type=int, default=300, help="repeat the file to about this size, unpacked")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", choices=["bare", "ours"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part == "bare":
        bare_parse(arguments.file)
    elif arguments.part == "ours":
        prepare_ours(arguments.file)
    elif not arguments.file.name.endswith(SUFFIX):
        parser.error(f"expected a file CATEGORY{SUFFIX}, not {arguments.file.name}")
    else:
        compare(repeated(arguments.file, arguments.megabytes), arguments.rounds)


if __name__ == "__main__":
    main()
