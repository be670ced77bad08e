"""Which rows buy their quality at the lowest cost: nothing else is both cheaper and better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from recbench.report.board import Board
from recbench.report.columns import AXES, Axis


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
