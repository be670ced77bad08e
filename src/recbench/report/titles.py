"""Titles of leaderboards that are never the same twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from recbench.report.board import Board
from recbench.report.collect import deciding
from recbench.report.rows import MOST_KEYS


def told_apart(boards: Sequence[Board]) -> list[Board]:
    """Titles that are never the same twice: where words are alike, by the keys of data and protocol that differ, else by hashes."""
    titles = [board.title for board in boards]
    found = []
    for board in boards:
        alike = [other for other in boards if other.title == board.title]
        said = _differing(board, alike) if titles.count(board.title) > 1 else ""
        found.append(replace(board, title=f"{board.title} ({said})") if said else board)
    titles = [board.title for board in found]
    return [
        board
        if titles.count(board.title) == 1
        else replace(board, title=f"{board.title} (data {board.place.fingerprint[:8]}, split {board.place.split[:8]})")
        for board in found
    ]


def _differing(board: Board, alike: Sequence[Board]) -> str:
    """``key=value`` of data and protocol in which boards of one title differ; "" where their configs are the same."""
    configs = {other.place: _asked(other) for other in alike}
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    varying = [key for key in keys if len({str(config.get(key)) for config in configs.values()}) > 1]
    own = configs[board.place]
    return ", ".join(f"{key.partition('.')[2]}={own[key]}" for key in varying[:MOST_KEYS] if key in own)


def _asked(board: Board) -> dict[str, Any]:
    """The keys of data and protocol of a board's first run."""
    run = next((line.row.runs[0] for line in board.measured if line.row), None)
    return (
        {} if run is None else {k: v for k, v in deciding(run.config).items() if k.startswith(("data.", "protocol."))}
    )
