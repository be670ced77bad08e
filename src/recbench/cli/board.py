"""``recbench board``: the rows of all studies on one page. Trains nothing, and needs no run: it reads what the studies commit.

    recbench board [STUDY ...] [out=FOLDER]      without names: every study of experiments/ that has a results.csv

writes report.html (one self-contained page with search, filters, intervals and groups), report.md, report.tex and leaderboard.csv into
reports/board.

    out=FOLDER        where to write
"""

from __future__ import annotations

import sys
from pathlib import Path

from recbench.core.errors import UserError
from recbench.core.terminal import help_or_status


def board(arguments: list[str]) -> Path:
    """Write the board that the words ask for; returns its page. Raises UserError."""
    from recbench.config.schemas import conf_dir
    from recbench.study.board import studies_in, write_board

    wrong = [word for word in arguments if word.startswith("-") or ("=" in word and not word.startswith("out="))]
    if wrong:
        raise UserError(f"cannot read '{wrong[0]}'; recbench board takes names of studies and out=FOLDER")
    places = [word.removeprefix("out=") for word in arguments if "=" in word]
    names = [word for word in arguments if "=" not in word]
    homes = dict.fromkeys([Path.cwd() / "experiments", conf_dir().parent / "experiments"])
    out = Path(places[-1] if places else "reports/board").expanduser().absolute()
    return write_board(studies_in(homes, names), out)


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, or 2 for wrong use."""

    def write() -> int:
        print(f"board: {board(arguments)}", file=sys.stderr)
        return 0

    return help_or_status(arguments, __doc__, write, "stopped; nothing but the board's own folder was written")
