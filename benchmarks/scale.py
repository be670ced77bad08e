"""``python -m benchmarks.scale``: what prepare, an epoch and an evaluation cost as catalogue and log grow, in seconds and memory.

Every piece of work runs in a process of its own. Epochs are extrapolated from a few steps and evaluations from a few users; the table says
from how many. Without ``--full`` the sizes are small, for a quick look. Finished pieces are kept in ``.bench/scale/`` and not measured again,
so a command that was stopped goes on where it was; ``--again`` measures anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".bench" / "scale"

#: Column of the table -> the piece of work.
WORK = {
    "prepare": "prepare",
    "sampled": "sampled-softmax epoch",
    "sampled_dense": "the same, dense gradients",
    "full_softmax": "full-softmax epoch",
    "evaluate": "full-ranking evaluation",
}
QUICK, FULL = ([10_000, 100_000], [1_000_000]), ([10_000, 100_000, 1_000_000], [1_000_000, 10_000_000])
#: The size that is promised: a million items, 200 thousand users, 20 million interactions.
LARGE = (1_000_000, 20_000_000)
GIB = 2**30

Found = dict[str, Any]
Size = tuple[int, int]


def child(work: str, size: Size, asked: argparse.Namespace) -> Found:
    """Run a piece of work and read its line. Raises RuntimeError with the end of its output if it fails."""
    items, interactions = size
    words = [work, str(FOLDER / f"{items}-{interactions}"), "--items", str(items), "--interactions", str(interactions)]
    # The exact softmax over a million items takes seconds a step: a few say as much.
    steps = max(1, asked.steps // 5) if work == "full_softmax" else asked.steps
    words += ["--steps", str(steps), "--batch", str(asked.batch), "--users", str(asked.users)]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "OMP_NUM_THREADS": str(asked.threads)}
    program = [sys.executable, "-m", "benchmarks.scale_work", *words]
    done = subprocess.run(program, env=environ, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(program)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "measured_steps": steps}


def measure(sizes: list[Size], asked: argparse.Namespace) -> dict[Size, dict[str, Found]]:
    """All pieces of work at all sizes, those measured before among them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    found: dict[Size, dict[str, Found]] = {}
    for size in sizes:
        kept = FOLDER / f"{size[0]}-{size[1]}.json"
        known = {} if asked.again or not kept.is_file() else json.loads(kept.read_text())
        folder = FOLDER / f"{size[0]}-{size[1]}"
        for work in asked.work:
            if work in known:
                continue
            if not (folder / "events.parquet").is_file():
                say(size, "table")
                child("table", size, asked)
            if work == "prepare":
                shutil.rmtree(folder / "prepared", ignore_errors=True)
            say(size, work)
            known[work] = child(work, size, asked)
            print(f"    {known[work]['seconds']:.1f} s, {known[work]['peak_bytes'] / GIB:.2f} GiB", file=sys.stderr)
            kept.write_text(json.dumps(known, indent=1))
        found[size] = {work: known[work] for work in asked.work}
        if not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return found


def say(size: Size, work: str) -> None:
    print(f"{size[0]:,} items, {size[1]:,} interactions: {WORK.get(work, work)}", file=sys.stderr)


def exponents(found: dict[Size, dict[str, Found]], work: str, key: str) -> tuple[float | None, float | None]:
    """(a, b) of cost ~ items^a interactions^b, by least squares of the logarithms; None for what does not vary.

    >>> given = {(v, n): {"w": {"s": 2.0 * v**0.5 * n}} for v in (10, 100) for n in (10, 1000)}
    >>> [round(x, 6) for x in exponents(given, "w", "s")]
    [0.5, 1.0]
    """
    sizes = list(found)
    logs = np.log(np.array(sizes, dtype=float))
    varies = [column for column in (0, 1) if len(set(logs[:, column])) > 1]
    design = np.column_stack([np.ones(len(sizes)), *(logs[:, column] for column in varies)])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return None, None
    slopes = np.linalg.lstsq(design, np.log([found[size][work][key] for size in sizes]), rcond=None)[0][1:]
    by_column = dict(zip(varies, slopes.tolist(), strict=True))
    return by_column.get(0), by_column.get(1)


def table(found: dict[Size, dict[str, Found]], works: list[str]) -> str:
    """Markdown: seconds, peak memory and own peak of every piece of work at every size, and how they grow."""
    lines = ["| items | interactions | " + " | ".join(WORK[w] for w in works) + " |", "|---" * (len(works) + 2) + "|"]
    for (items, interactions), known in found.items():
        lines.append(f"| {items:,} | {interactions:,} | " + " | ".join(cell(known[w]) for w in works) + " |")
    for key, name in (("seconds", "seconds"), ("own_peak_bytes", "own memory")):
        grown = [exponents(found, w, key) for w in works]
        said = " | ".join(f"{_slope(a)}, {_slope(b)}" for a, b in grown)
        lines.append(f"| {name} ~ items^a | interactions^b | {said} |")
    return "\n".join(lines)


def cell(one: Found) -> str:
    """Seconds, the peak of all resident pages, and of those of the process alone."""
    part = ""
    if "steps" in one:
        part = f" (from {one['measured_steps']} of {one['steps']:,} steps)"
    elif "users" in one and one["users"] < one["users_in_all"]:
        part = f" (from {one['users']:,} of {one['users_in_all']:,} users)"
    return f"{one['seconds']:,.1f} s{part}, {one['peak_bytes'] / GIB:.2f} GiB (own {one['own_peak_bytes'] / GIB:.2f})"


def _slope(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def plot(found: dict[Size, dict[str, Found]], works: list[str], path: Path) -> None:
    """One panel a piece of work, seconds above and own memory below, a line for each number of interactions; seconds and items logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.fonttype"] = "none"  # text as text, not as curves
    figure, axes = plt.subplots(2, len(works), figsize=(3.2 * len(works), 5.6), squeeze=False, sharex=True)
    for column, work in enumerate(works):
        for row, (key, scale, unit) in enumerate((("seconds", 1.0, "s"), ("own_peak_bytes", GIB, "GiB"))):
            axis = axes[row, column]
            for interactions in sorted({size[1] for size in found}):
                points = sorted((v, known[work][key] / scale) for (v, n), known in found.items() if n == interactions)
                label = f"{interactions / 1e6:g} M interactions"
                axis.plot(*zip(*points, strict=True), marker="o", label=label)
            axis.set(xscale="log", yscale="log" if row == 0 else "linear")
            if row == 1:
                axis.set_ylim(bottom=0)
            axis.grid(visible=True, which="major", alpha=0.3)
            if column == 0:
                axis.set_ylabel(unit)
        axes[0, column].set_title(WORK[work], fontsize=9)
        axes[1, column].set_xlabel("items")
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__)
    parser.add_argument("--full", action="store_true", help="1e4, 1e5, 1e6 items and 1e6, 1e7 interactions")
    parser.add_argument("--large", action="store_true", help="1e6 items and 2e7 interactions alone")
    parser.add_argument("--items", type=int, nargs="+", help="sizes of one's own")
    parser.add_argument("--interactions", type=int, nargs="+")
    parser.add_argument("--work", nargs="+", choices=list(WORK), default=list(WORK))
    parser.add_argument("--steps", type=int, default=20, help="of an epoch; a fifth of them for the full softmax")
    parser.add_argument("--batch", type=int, default=2048, help="targets a step")
    parser.add_argument("--users", type=int, default=512, help="that are ranked")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--again", action="store_true", help="measure also what is known")
    parser.add_argument("--keep", action="store_true", help="leave tables and prepared data in .bench/scale/")
    parser.add_argument("--plot", type=Path, default=FOLDER / "scale.svg")
    asked = parser.parse_args()
    asked.work = [work for work in WORK if work in asked.work]
    return asked


def main() -> None:
    asked = parse()
    items, interactions = FULL if asked.full else QUICK
    grid = [(v, n) for n in asked.interactions or interactions for v in asked.items or items]
    sizes = [LARGE] if asked.large else grid
    if any(n < v for v, n in sizes):
        raise SystemExit("every item must occur: ask for no more --items than --interactions")
    found = measure(sizes, asked)
    print(table(found, asked.work))
    asked.plot.parent.mkdir(parents=True, exist_ok=True)
    plot(found, asked.work, asked.plot)
    print(f"plot: {asked.plot}", file=sys.stderr)


if __name__ == "__main__":
    main()
