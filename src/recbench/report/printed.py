"""Printed rows, as papers give them, below the measured ones of a board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from recbench.report.board import PUBLISHED, Board, Line
from recbench.report.columns import BY_NAME


def with_published(
    boards: Sequence[Board], published: Sequence[Mapping[str, Any]], reference: str | None
) -> list[Board]:
    """Boards with the printed rows of a study below the measured ones.

    A printed row stands with the row that it names with ``beside``, and nowhere before that row is measured; one that names none stands
    with the reference, or on the first board. Of its figures each board takes those of its own protocol, by their prefix.
    """
    found = list(boards)
    for printed in published:
        named = printed.get("beside")
        homes = [b for b in boards if (named or reference) in {line.name for line in b.measured}]
        if not (homes or named):
            homes = list(boards[:1])
        data = {(b.place.data, b.place.fingerprint, b.place.split) for b in homes}
        for i, board in enumerate(found):
            if (board.place.data, board.place.fingerprint, board.place.split) not in data:
                continue
            figures = {
                name: (float(value), None)
                for name, value in printed.items()
                if isinstance(value, int | float) and _belongs(name, board)
            }
            if figures:
                line = Line(str(printed["label"]), figures, PUBLISHED, str(printed["source"]))
                found[i] = replace(found[i], lines=(*found[i].lines, line))
    return found


def _belongs(name: str, board: Board) -> bool:
    """Whether a figure has a board's prefix, and no longer one; costs belong to the protocol that the runs were trained for."""
    if name in BY_NAME:
        return board.main
    if name.startswith("tokenizer/") or board.metric is None:
        return name.startswith("tokenizer/") and board.metric is None
    rest = name.removeprefix(board.prefix)
    return name.startswith(board.prefix) and "_" not in rest.replace("mean_popularity", "")
