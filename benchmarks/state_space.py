"""State-space layers against attention, and SSD against the length: ``python -m benchmarks.state_space``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from recbench.models.sequential.tim4rec import TiM4RecConfig, TiM4RecLayer
from recbench.nn.recurrent.mamba_mixer import MambaMixer
from recbench.nn.recurrent.state_space import ssd
from recbench.nn.transformer.attention import TransformerLayer


def medians(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, measured in turn, so that a machine that slows down slows all of them.

    A turn is three passes of which two count: the first finds the memory as the other ways left it, as no training step does.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            for turn in range(3):
                started = time.perf_counter()
                way()
                if round_ and turn:
                    seconds[name].append(time.perf_counter() - started)
    return {name: 1000 * sorted(taken)[rounds] for name, taken in seconds.items()}


def step(layer: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    """One forward and backward pass, the gradient by the input included."""
    grad = torch.randn_like(x)
    return lambda: layer(x).backward(grad)


def against_attention(length: int, positions: int, width: int, rounds: int, mamba: bool) -> None:
    """A whole layer of each kind, feed-forward of four widths included, without dropout."""
    rows = positions // length
    x = torch.randn(rows, length, width, requires_grad=True)
    tau = torch.randn(rows, length)
    config = TiM4RecConfig(hidden_size=width, dropout=0.0)
    timed = TiM4RecLayer(config, length, last=False)
    plain = TiM4RecLayer(TiM4RecConfig(hidden_size=width, dropout=0.0, use_time=False), length, last=False)
    small = TiM4RecLayer(TiM4RecConfig(hidden_size=width, dropout=0.0, state_size=16), length, last=False)
    ways = {
        "attention": step(TransformerLayer(width, 2, 4 * width, 0.0), x),
        "tim4rec": step(lambda u: timed(u, tau)[0], x),
        "tim4rec without time": step(lambda u: plain(u, None)[0], x),
        "tim4rec, state 16": step(lambda u: small(u, tau)[0], x),
    }
    if mamba:
        ways["mamba-1, without feed-forward"] = step(MambaMixer(width, 2, 32, 4), x)
    print(f"\nlength {length}, {rows * length} positions, width {width}")
    measured = medians(ways, rounds)
    for name, taken in measured.items():
        print(f"{name:<30} {taken:8.1f} ms   {taken / measured['attention']:5.2f}x")


def against_length(lengths: list[int], rounds: int) -> None:
    """The recurrence alone: 4 heads of 32, state 32, one row."""
    print(f"\n{'length':>6} {'chunked':>11} {'a position':>12} {'dense':>11}")
    for length in lengths:
        x, b, c = torch.randn(1, length, 4, 32), torch.randn(1, length, 32), torch.randn(1, length, 32)
        pace = torch.rand(1, length, 4)
        inputs = [part.requires_grad_() for part in (x, pace, -pace.clone(), b, c)]
        grad = torch.randn_like(x)

        def way(form: str, parts: list[Tensor] = inputs, grad: Tensor = grad) -> None:
            x, pace, decay, b, c = parts
            torch.autograd.grad(ssd(x, pace, decay, b, c, form=form), parts, grad)

        ways = {"chunked": lambda: way("chunked")}
        if length <= 1024:
            ways["dense"] = lambda: way("dense")
        taken = medians(ways, rounds)
        dense = f"{taken['dense']:8.2f} ms" if "dense" in taken else ""
        print(f"{length:>6} {taken['chunked']:8.2f} ms {1000 * taken['chunked'] / length:9.2f} us {dense:>11}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--positions", type=int, nargs="+", default=[4000, 8000])
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--mamba", action="store_true", help="Mamba-1's mixer too, which takes many times as long")
    parser.add_argument("--longest", type=int, default=4096, help="of the table by length, which starts at 128")
    chosen = parser.parse_args()
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; forward and backward")
    for length in chosen.lengths:
        for positions in chosen.positions:
            against_attention(length, positions, chosen.width, chosen.rounds, chosen.mamba)
    against_length([2**k for k in range(7, chosen.longest.bit_length())], chosen.rounds)


if __name__ == "__main__":
    main()
