"""What depth and prompt cost: training steps, inference, memory and parameters of the Llama-2-7B shape, layer by layer and form by form.

    python experiments/slmrec_efficiency/measure.py                      # an eighth of the width, on the CPU
    python experiments/slmrec_efficiency/measure.py --device cuda --width 1 --batch 512 --training-batch 32
    python experiments/slmrec_efficiency/measure.py --quick              # a smoke run in two minutes

Every case runs in a process of its own (``one.py``), one after the other, with a stated number of threads; run it with nothing beside it.
Writes results.csv and the tables between the markers of README.md, in the folder ``--out``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: Arguments that --quick sets: everything as small as it goes.
QUICK = {
    "width": 128, "layers": [4, 2, 1], "batch": 4, "training_batch": 2, "history": 5, "prompt": [3, 2], "items": 50, "repeats": 2,
}  # fmt: skip
#: The paper's figures for 32 layers against 4 [arXiv 2405.17890, table 7]: hours of training, hours of inference, parameters.
PAPER = {"training": 3.95 / 0.60, "inference": 0.415 / 0.052, "parameters": 0.944 / 6.631}

Result = dict[str, Any]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--width",
        type=int,
        default=8,
        help="the shape's widths and heads are divided by this (8: 512 wide, 1: the full shape)",
    )
    parser.add_argument(
        "--layers", type=int, nargs="+", default=[32, 8, 4], help="depths, the full one first, the student's last"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--precision", choices=["float32", "bfloat16"], help="of the frozen weights (default: bfloat16 on a GPU)"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads")
    parser.add_argument("--batch", type=int, default=128, help="users of a batch in inference")
    parser.add_argument("--training-batch", type=int, default=16, help="users of a batch in training")
    parser.add_argument("--history", type=int, default=30, help="items of every history")
    parser.add_argument("--prompt", type=int, nargs=2, default=[63, 6], help="positions before and behind the items")
    parser.add_argument("--items", type=int, default=12101, help="items of the catalogue")
    parser.add_argument(
        "--repeats", type=int, default=5, help="timed repetitions of a case, of which the median counts"
    )
    parser.add_argument("--budget", type=float, default=60.0, help="seconds after which a case is repeated no more")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results.csv and README.md")
    parser.add_argument("--quick", action="store_true", help="a smoke run at a very small size")
    parser.add_argument("--table", action="store_true", help="measure nothing; write the tables again from results.csv")
    chosen = parser.parse_args(given)
    if chosen.quick:
        vars(chosen).update(QUICK)
    if any(size % chosen.width for size in (4096, 11008, 32 * 128)) or chosen.width > 128:
        parser.error(f"--width {chosen.width} must divide 4096 and 11008, as 1, 2, 4, 8 .. 128 do")
    chosen.precision = chosen.precision or ("bfloat16" if chosen.device == "cuda" else "float32")
    return chosen


def cases(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every case, in the words of ``one.Case``."""
    shared = {
        "width": chosen.width,
        "history": chosen.history,
        "prompt": chosen.prompt,
        "n_items": chosen.items,
        "device": chosen.device,
        "precision": chosen.precision,
        "threads": chosen.threads,
        "repeats": chosen.repeats,
        "budget": chosen.budget,
    }
    for form in ("full", "prefix", "none"):
        for layers in chosen.layers:
            yield {**shared, "layers": layers, "form": form, "task": "inference", "batch": chosen.batch}
            yield {**shared, "layers": layers, "form": form, "task": "one_target", "batch": chosen.training_batch}
    training = {**shared, "form": "none", "batch": chosen.training_batch}
    for layers in chosen.layers:
        yield {**training, "layers": layers, "task": "all_targets"}
    if len(chosen.layers) > 1:
        student, teacher = chosen.layers[-1], chosen.layers[-2]
        blocks = max(b for b in range(1, 5) if student % b == 0 and teacher % b == 0)
        for task in ("taught_offline", "taught_online"):
            yield {**training, "layers": student, "task": task, "teacher_layers": teacher, "n_blocks": blocks}


def start(case: Mapping[str, Any]) -> Result:
    """Measure a case in a new process. Raises RuntimeError with the end of what it said if that fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(case["threads"])}
    command = [sys.executable, str(HERE / "one.py"), json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{json.dumps(case)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run(case: Mapping[str, Any]) -> Result:
    """Measure a case, say what came out, and work out what a user costs."""
    found = start(case)
    result = {**case, **found, "prompt": "+".join(map(str, case["prompt"]))}
    result["ms_per_user"] = 1000 * found["seconds"] / case["batch"]
    result["above_libraries_bytes"] = found["peak_bytes"] - found["libraries_bytes"]
    print(
        f"{case['layers']:>2} layers, prompt {case['form']:<6} {case['task']:<14} {result['ms_per_user']:10.2f} ms a user "
        f"({found['repeats']} times, {1000 * found['seconds_least']:.0f} to {1000 * found['seconds_most']:.0f} ms a batch of {case['batch']})",
        file=sys.stderr,
    )
    return result


def with_ratios(results: Sequence[Result]) -> list[Result]:
    """Adds how many times faster than the deepest model each is: in the same form and task, and against the full prompt with one target."""
    deepest = max(result["layers"] for result in results)
    base = {(r["form"], r["task"]): r["ms_per_user"] for r in results if r["layers"] == deepest}

    def against(result: Result) -> dict[str, float]:
        ratios = {}
        same = base.get((result["form"], result["task"]))
        paper = base.get(("full", "inference" if result["task"] == "inference" else "one_target"))
        if same is not None:
            ratios["ratio_same_form"] = same / result["ms_per_user"]
        if paper is not None:
            ratios["ratio_full_prompt"] = paper / result["ms_per_user"]
        return ratios

    return [{**result, **against(result)} for result in results]


def main(given: Sequence[str] | None = None) -> None:
    """Measure every case, and write what came out."""
    import tables

    options = arguments(given)
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.table:
        about = {"processor": tables.processor(options.device), "platform": platform.platform(), **tables.code()}
        tables.write(options.out, with_ratios([{**run(case), **about} for case in cases(options)]))
    tables.show(options.out, PAPER)


if __name__ == "__main__":
    main()
