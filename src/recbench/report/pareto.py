"""Which rows buy their quality at the lowest cost: nothing else is both cheaper and better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recbench.report.board import Board


@dataclass(frozen=True)
class Axis:
    """One kind of cost. name: the figure's name without ``cost/``; unit: as on the axis; scale: figure to unit."""

    name: str
    label: str
    unit: str
    scale: float = 1.0


#: In the order in which they are offered; those that no two rows have are left out.
AXES: Sequence[Axis] = (
    Axis("parameters_total", "parameters", "values"),
    Axis("train_seconds", "training time", "seconds"),
    Axis("train_seconds_with_dependencies", "training with dependencies", "seconds"),
    Axis("latency_p50_ms", "latency of one user, median", "ms"),
    Axis("bytes_on_disk", "size on disk", "MB", 1e-6),
    Axis("flops_per_user", "work of one answer", "FLOP"),
    Axis("peak_memory_bytes", "peak memory", "MB", 1e-6),
    Axis("peak_gpu_memory_bytes", "peak GPU memory", "MB", 1e-6),
    Axis("energy_joules", "energy of training", "J"),
)


@dataclass(frozen=True)
class Point:
    """A row by cost and quality. on_front: no other row is at least as good and as cheap, and better in one of both."""

    name: str
    cost: float
    value: float
    on_front: bool


def front(pairs: Mapping[str, tuple[float, float]]) -> list[Point]:
    """Points of name -> (cost, quality), cheapest first.

    >>> [(p.name, p.on_front) for p in front({"a": (1, 0.5), "b": (2, 0.4), "c": (3, 0.6)})]
    [('a', True), ('b', False), ('c', True)]
    """
    points, best = [], float("-inf")
    for name, (cost, value) in sorted(pairs.items(), key=lambda pair: (pair[1][0], -pair[1][1])):
        points.append(Point(name, cost, value, value > best))
        best = max(best, value)
    return points


def axes_of(board: Board) -> list[tuple[Axis, list[Point]]]:
    """Every kind of cost that two rows or more have, with their points."""
    if board.metric is None:
        return []
    found = []
    for axis in AXES:
        pairs = {}
        for line in board.measured:
            cost, value = line.mean(axis.name), line.mean(board.metric)
            if cost is not None and value is not None:
                pairs[line.name] = cost * axis.scale, value
        if len(pairs) > 1 and len({cost for cost, _ in pairs.values()}) > 1:
            found.append((axis, front(pairs)))
    return found
