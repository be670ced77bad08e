"""What depth costs on the real backbone: a training step, users a second, latency, memory and parameters, of several depths in turn.

    RECBENCH_LANGUAGE_MODEL=FOLDER python -m experiments.slmrec_pretrained.cost data.raw_dir=FOLDER

Each depth lives in a process of its own. They are asked one after the other, round by round (4, 8, 30, 4, 8, 30 ...), so that whatever else the
machine does meets all of them; seconds are those of the processor, of all threads. Nobody trains the weights: they do not change how long a step
takes. Writes cost.csv, a line a depth, and the table between the markers of README.md in the folder ``--out``.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- cost -->", "<!-- /cost -->"
#: As in study.yaml; the item table has the width of the default sasrec, whatever stands in it.
WORDS = (
    *("model=slmrec_plain", "model.init=pretrained", "model.precision=bfloat16"),
    *("model.lora_rank=16", "model.lora_alpha=16", "model.lora_dropout=0.05"),
    *("protocol=leave_one_out", "training.batch_size=2048", "training.gradient_clip=1.0"),
    *("tuned=off", "tracking=off", "hardware=cpu"),
)
BEAUTY = ("data=amazon", "data.version=2014", "data.category=Beauty")
#: What is timed, and how often in a round: ranking many users, answering one, a training step.
TASKS = {"users": 2, "one": 10, "train": 2}
#: Users of "users", spread over the test, and how many of like length are read at once: little is padded, as where all of them are ranked.
USERS, ROWS = 512, 32
#: The paper's figures for 32 layers against 4 [arXiv 2405.17890, table 7]: hours of training, hours of inference.
PAPER = {"train": 3.95 / 0.60, "users": 0.415 / 0.052}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 8, 30], help="depths (default: 4 8 30)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each depth is asked (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of cost.csv and README.md")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", metavar="key=value", help="further keys, as in data.raw_dir=FOLDER")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    chosen = arguments(given)
    if chosen.worker is not None:
        work(chosen.worker, chosen.threads, chosen.words)
        return 0
    lines = measured(chosen)
    write(lines, chosen.out)
    print(table(lines))
    return 0


def measured(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """A line a depth: median seconds of each task, their least and most, peak bytes while training and ranking, parameters."""
    found: dict[int, dict[str, list[float]]] = {depth: {task: [] for task in TASKS} for depth in chosen.layers}
    lines: dict[int, dict[str, Any]] = {}
    with contextlib.ExitStack() as stack:
        asks = {depth: stack.enter_context(Worker(depth, chosen.threads, chosen.words)).ask for depth in chosen.layers}
        for depth in chosen.layers:
            lines[depth] = {"layers": depth, **asks[depth]("about")}
        for _ in range(chosen.rounds):
            for depth in chosen.layers:
                for task in TASKS:
                    said = asks[depth](task)
                    found[depth][task] += said["seconds"]
                    lines[depth].setdefault(f"{task}_peak_bytes", said["peak_bytes"])
    for depth, line in lines.items():
        for task, seconds in found[depth].items():
            line |= {f"{task}_seconds": statistics.median(seconds)}
            line |= {f"{task}_least": min(seconds), f"{task}_most": max(seconds), f"{task}_times": len(seconds)}
    return list(lines.values())


class Worker:
    """A depth in a process of its own: a word in, a line of JSON out."""

    def __init__(self, depth: int, threads: int, words: Sequence[str]) -> None:
        command = [sys.executable, "-m", "experiments.slmrec_pretrained.cost", *words, "--worker", str(depth)]
        self.process = subprocess.Popen(
            [*command, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            cwd=HERE.parents[1],
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.wait()

    def ask(self, task: str) -> dict[str, Any]:
        """Raises RuntimeError if the process has ended; it said why."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(task + "\n")
            self.process.stdin.flush()
        for said in self.process.stdout:
            if said.startswith("{"):
                return json.loads(said)
        raise RuntimeError(f"the process that was asked for '{task}' ended with {self.process.wait()}")


def work(depth: int, threads: int, words: Sequence[str]) -> None:
    """Answer what stands on standard input, a line each, until it ends."""
    import torch

    torch.set_num_threads(threads)
    tasks, about = prepared(depth, words)
    for line in sys.stdin:
        task = line.strip()
        said = about if task == "about" else {"seconds": timed(tasks[task], TASKS[task]), "peak_bytes": peak_bytes()}
        print(json.dumps(said), flush=True)


def prepared(depth: int, words: Sequence[str]) -> tuple[dict[str, Callable[[int], object]], dict[str, Any]]:
    """(what each task calls with the number of the repetition, what is said about the model)."""
    import torch

    from benchmarks.steps import steps_of
    from recbench.config.compose import compose
    from recbench.data.batches import evaluation_batches
    from recbench.evaluation.cost.efficiency import spread
    from recbench.evaluation.evaluate import evaluate
    from recbench.experiment.context import RunContext
    from recbench.models.base import count_parameters

    backbone = os.environ.get("RECBENCH_LANGUAGE_MODEL", "~/.cache/recbench/language-models/smollm2-135m-instruct")
    data = () if any(word.startswith("data=") for word in words) else BEAUTY
    config = compose((*WORDS, *data, f"model.backbone={backbone}", f"model.n_layers={depth}", *words))
    stage, length = RunContext.of(config), config.training.max_length
    torch.manual_seed(config.seed)
    steps = steps_of(config, stage, 1 + TASKS["train"], torch.device("cpu"))
    model, test = steps.learner.student, stage.split.test
    users = test.select(spread(len(test), USERS))
    single = [batch for _, batch in evaluation_batches(stage.data, test.select(spread(len(test), 11)), length, 1)]

    def train(repetition: int) -> None:
        model.train()
        steps.take(repetition, lambda kind: nullcontext(), lambda kind: nullcontext())

    @torch.no_grad()
    def rank(repetition: int) -> None:
        evaluate(model.eval().score, stage.data, users, stage.split, length, rows=ROWS)

    @torch.inference_mode()
    def answer(repetition: int) -> None:
        model.eval().score(single[repetition])

    about: dict[str, Any] = {f"parameters_{name}": value for name, value in count_parameters(model).items()}
    about |= {"targets": steps.targets(1), "users": len(users), "threads": torch.get_num_threads()}
    about |= {"torch": str(torch.__version__), "platform": platform.platform()}
    return {"train": train, "users": rank, "one": answer}, about


def timed(call: Callable[[int], object], times: int) -> list[float]:
    """Processor seconds of each repetition after one that is not counted. The peak of memory starts anew."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    call(0)
    seconds = []
    for repetition in range(1, times + 1):
        started = time.process_time()
        call(repetition)
        seconds.append(time.process_time() - started)
    return seconds


def peak_bytes() -> int:
    """The most memory that this process held since ``timed`` began; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row a depth, and how many times the deepest model's time the others save."""
    deepest = max(lines, key=lambda line: line["layers"])
    heads = [
        "layers",
        "a training step, s",
        "against the deepest",
        "users a second",
        "against the deepest",
        "one user, ms",
    ]
    heads += ["peak memory, training / ranking, GiB", "parameters, trained"]
    shown = [f"| {' | '.join(heads)} |", "| ---: |" + " ---: |" * (len(heads) - 1)]
    for line in lines:
        train, users = (deepest[f"{task}_seconds"] / line[f"{task}_seconds"] for task in ("train", "users"))
        memory = " / ".join(f"{line[f'{task}_peak_bytes'] / 2**30:.1f}" for task in ("train", "users"))
        shown.append(
            f"| {line['layers']} | {line['train_seconds']:.2f} | {train:.1f}x | {line['users'] / line['users_seconds']:.0f} | {users:.1f}x "
            f"| {1000 * line['one_seconds']:.1f} | {memory} | {line['parameters_total'] / 1e6:.1f}M, {line['parameters_trainable'] / 1e6:.2f}M |"
        )
    shown.append(f"| 4 (paper, against 32) | | {PAPER['train']:.1f}x | | {PAPER['users']:.1f}x | | | |")
    return "\n".join(shown)


def write(lines: list[dict[str, Any]], out: Path) -> None:
    """cost.csv, and the table where README.md has its place."""
    from recbench.core.run_folder import replacing

    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "cost.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    page = out / "README.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if BEGIN in text and END in text:
        head, rest = text.split(BEGIN)
        with replacing(page) as temporary:
            temporary.write_text(f"{head}{BEGIN}\n{table(lines)}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
