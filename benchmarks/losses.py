"""Our chunked softmax against torch's own ways to the same loss and gradients: ``python -m benchmarks.losses``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.nn.losses.catalogue import full_softmax


def step(loss: Callable[[Tensor, Tensor], Tensor], hidden: Tensor, table: Tensor) -> float:
    """Seconds of one forward and backward pass."""
    hidden.grad = table.grad = None
    started = time.perf_counter()
    loss(hidden, table).backward()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=512)
    parser.add_argument("--items", type=int, default=12_101)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    chosen = parser.parse_args()
    torch.manual_seed(0)
    hidden = torch.randn(chosen.targets, chosen.width, requires_grad=True)
    table = (0.1 * torch.randn(chosen.items + 1, chosen.width)).requires_grad_()
    targets = torch.randint(1, chosen.items + 1, (chosen.targets,))
    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "full_softmax bfloat16": lambda h, t: full_softmax(h, t, targets, bfloat16=True),
        "full_softmax float32": lambda h, t: full_softmax(h, t, targets),
        "cross_entropy(h @ t.T)": lambda h, t: F.cross_entropy(h @ t.T, targets),
        "linear_cross_entropy": lambda h, t: F.linear_cross_entropy(h, t, targets),
        "linear_cross_entropy, chunked": lambda h, t: F.linear_cross_entropy(
            h, t, targets, options=torch.nn.LinearCrossEntropyOptions()
        ),
    }
    # In turn, so that a machine that slows down slows all of them.
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(chosen.rounds + 2):
        for name, loss in ways.items():
            taken = step(loss, hidden, table)
            if round_ >= 2:
                seconds[name].append(taken)
    first = sorted(seconds["full_softmax bfloat16"])[chosen.rounds // 2]
    print(f"{chosen.targets} targets, {chosen.items} items, width {chosen.width}, {torch.get_num_threads()} threads")
    for name, measured in seconds.items():
        median = sorted(measured)[chosen.rounds // 2]
        print(f"{name:<32} {1000 * median:8.1f} ms   {median / first:5.2f}x")


if __name__ == "__main__":
    main()
