"""The floor of a SASRec epoch: what it needs in operations and bytes, over what this machine measures right then.

    python -m benchmarks.floor --data FOLDER        # prints the lines "machine" and "floor"

The needed work of an epoch (shapes: N targets, V rows of the item table, D width, F feed-forward width, K layers):

    network    6 (4 D^2 + 2 D F) K N operations for the linear layers, forward and backward, and 12 D K for each pair of positions in which
               one sees the other; only real positions count
    logits     6 N V D operations: the product itself and the two that give its gradients
    softmax    one pass over N V values; the gradient of the logits is made in the same pass
    bytes      8 values of 4 bytes a parameter and step (gradient written; parameter, gradient and two moments read, three of them written), and
               the inputs and outputs of each linear layer three times (forward, and both gradients)

Speeds are medians over repeats: large square products; the logits' product at the shape of a step, cut into blocks as our loss cuts them; a
softmax in place over such a block; and copies of 256 MB, bytes read and written. The floor adds the parts up at the best speed of each kind;
"as_shaped" takes the logits' product at the speed that its narrow shape (an inner dimension of D) has here, which no loss that forms logits beats.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.data import Sequences
from benchmarks.measure import NO_BFLOAT16
from benchmarks.task import SASRecTask, emit, emit_end, emit_machine

REPEATS = 7
SQUARE = 2048
COPIED_BYTES = 256 * 2**20
CACHED_BYTES = 2**20


@dataclass(frozen=True)
class Speeds:
    """Operations a second of products, values a second of softmax, bytes (read and written) a second of copies.

    Those in bfloat16 are None where the processor has no such products: emulated ones take minutes, and nobody uses them."""

    product_fp32: float
    logits_fp32: float
    softmax_fp32: float
    copy: float
    copy_cached: float
    product_bf16: float | None = None
    logits_bf16: float | None = None
    softmax_bf16: float | None = None

    @property
    def bfloat16(self) -> bool:
        return self.product_bf16 is not None

    def product(self, precision: str) -> float:
        """Of "fp32" or "bf16"; of the former where the latter was not measured."""
        return (self.product_bf16 if precision == "bf16" else None) or self.product_fp32

    def logits(self, precision: str) -> float:
        """As ``product``."""
        return (self.logits_bf16 if precision == "bf16" else None) or self.logits_fp32

    def softmax(self, precision: str) -> float:
        """As ``product``."""
        return (self.softmax_bf16 if precision == "bf16" else None) or self.softmax_fp32


@dataclass(frozen=True)
class Work:
    """What an epoch needs."""

    network_flop: float
    logits_flop: float
    logits: float
    bytes: float

    def seconds(self, speeds: Speeds, precision: str) -> float:
        """The floor with logits in "fp32" or "bf16", everything at the best speed of its kind."""
        return (
            self._rest(speeds) + self.logits_flop / speeds.product(precision) + self.logits / speeds.softmax(precision)
        )

    def seconds_as_shaped(self, speeds: Speeds, precision: str) -> float:
        """The same with the logits' product at the speed of its own shape."""
        return (
            self._rest(speeds) + self.logits_flop / speeds.logits(precision) + self.logits / speeds.softmax(precision)
        )

    def _rest(self, speeds: Speeds) -> float:
        return self.network_flop / speeds.product_fp32 + self.bytes / speeds.copy


def sasrec_epoch(task: SASRecTask, sequences: Sequences) -> Work:
    """The needed work of one epoch over all training targets.

    A history longer than ``max_length`` is taken as windows aligned to its most recent event, as ours are.
    """
    d, k = task.hidden_size, task.n_layers
    targets = np.diff(sequences.offsets) - 3
    whole, rest = targets // task.max_length, targets % task.max_length
    n = int(targets.sum())
    pairs = int((whole * (task.max_length * (task.max_length + 1) // 2) + rest * (rest + 1) // 2).sum())
    rows = len(np.unique(sequences.items)) + 1
    linear = 4 * d * d + 2 * d * task.feedforward_size
    steps = -(-n // task.batch_targets)
    parameters = rows * d + task.max_length * d + k * linear
    moved = 3 * k * n * (8 * d + 2 * task.feedforward_size)
    return Work(
        network_flop=k * (6.0 * linear * n + 12.0 * d * pairs),
        logits_flop=6.0 * n * rows * d,
        logits=float(n) * rows,
        bytes=4.0 * (8 * parameters * steps + moved),
    )


def measure_speeds(rows: int, width: int, columns: int, device: torch.device) -> Speeds:
    """Speeds for logits of ``rows`` x ``columns`` from an inner dimension ``width``, in blocks of at most 8 M values as our loss has them."""
    from recbench.nn.bfloat16 import has_fast_bfloat16
    from recbench.nn.losses.catalogue import CHUNK_VALUES

    rows = max(1, min(rows, CHUNK_VALUES // columns))
    found = {}
    native = [("bf16", torch.bfloat16)] if has_fast_bfloat16(device.type) else []
    for name, dtype in (("fp32", torch.float32), *native):
        a, b, out = (torch.randn(SQUARE, SQUARE, device=device, dtype=dtype) for _ in range(3))
        found[f"product_{name}"] = 2 * SQUARE**3 / seconds_of(partial(torch.mm, a, b, out=out), device)
        states = torch.randn(rows, width, device=device, dtype=dtype)
        table = torch.randn(columns, width, device=device, dtype=dtype)
        block = torch.empty(rows, columns, device=device, dtype=dtype)
        product = seconds_of(partial(torch.mm, states, table.T, out=block), device)
        found[f"logits_{name}"] = 2 * rows * columns * width / product
        passes = seconds_of(partial(torch.ops.aten._softmax.out, block, -1, False, out=block), device)
        found[f"softmax_{name}"] = rows * columns / passes
    for name, size in (("copy", COPIED_BYTES), ("copy_cached", CACHED_BYTES)):
        source = torch.empty(size // 4, device=device).normal_()
        target = torch.empty_like(source)
        found[name] = 2 * size / seconds_of(partial(target.copy_, source), device)
    return Speeds(**found)


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Median seconds of a call; short ones are repeated within a measurement, so that the clock's grain does not count."""
    call()
    once = _timed(call, 1, device)
    times = max(1, min(1000, int(0.005 / max(once, 1e-7))))
    return statistics.median(_timed(call, times, device) for _ in range(REPEATS))


def _timed(call: Callable[[], object], times: int, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(times):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / times


def main() -> None:
    from recbench.nn.bfloat16 import has_fast_bfloat16

    parser = argparse.ArgumentParser(prog="benchmarks.floor", description="The floor of an epoch on this machine.")
    parser.add_argument("--data", type=Path, required=True, help="folder of items.npy, offsets.npy, timestamps.npy")
    SASRecTask.add_arguments(parser)
    given = parser.parse_args()
    task = SASRecTask.of(given)
    torch.set_num_threads(task.threads)
    emit_machine(["torch", "numpy"], torch.get_num_threads())
    sequences = Sequences.open(given.data.resolve())
    work, columns = sasrec_epoch(task, sequences), len(np.unique(sequences.items)) + 1
    speeds = measure_speeds(task.batch_targets, task.hidden_size, columns, torch.device("cpu"))
    precision = "bf16" if has_fast_bfloat16("cpu") else "fp32"  # as ours chooses
    if not speeds.bfloat16:
        print(NO_BFLOAT16, file=sys.stderr)
    seconds = {name: work.seconds(speeds, name) for name in ("fp32", *(["bf16"] if speeds.bfloat16 else []))}
    seconds["as_shaped"] = work.seconds_as_shaped(speeds, precision)
    emit("floor", work=asdict(work), speeds=asdict(speeds), seconds=seconds, precision=precision)
    emit_end()


if __name__ == "__main__":
    main()
