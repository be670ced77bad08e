"""Learning curves: the validation metric of a board after each epoch, from the histories that training leaves in run folders."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from recbench.report.board import Board


@dataclass(frozen=True)
class Curve:
    """One run. epochs from 1, seconds of training and validation so far, values of the metric; one of each an epoch."""

    name: str
    epochs: tuple[int, ...]
    seconds: tuple[float, ...]
    values: tuple[float, ...]


def curves_of(board: Board) -> list[Curve]:
    """One curve a row, that of its first seed; rows without epochs have none. In the order of the board."""
    if board.metric is None or not board.main:
        return []
    found = []
    for line in board.measured:
        history = line.row.runs[0].history() if line.row is not None else []
        name = f"validation/{board.metric}"
        known = [epoch for epoch in history if isinstance(epoch.get(name), int | float) and "epoch" in epoch]
        if len(known) < 2:
            continue
        spent = accumulate(float(e.get("seconds/train", 0.0)) + float(e.get("seconds/validation", 0.0)) for e in known)
        epochs = tuple(int(epoch["epoch"]) + 1 for epoch in known)
        found.append(Curve(line.name, epochs, tuple(spent), tuple(float(epoch[name]) for epoch in known)))
    return found
