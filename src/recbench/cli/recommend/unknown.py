"""``--unknown error|skip``: what becomes of ids that the data of a run do not know."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from recbench.core.errors import UserError

#: The choices, the default first.
UNKNOWN = ("error", "skip")


def add_unknown(parser: argparse.ArgumentParser, what: str) -> None:
    """Give a command the option. what: what is left out, as in "pairs"."""
    parser.add_argument(
        "--unknown",
        choices=UNKNOWN,
        default=UNKNOWN[0],
        help=f"ids that the run does not know: stop with their number (error, the default), or leave these {what} out and say how many (skip)",
    )


def told(what: str, total: int, unknown: Sequence[tuple[str, int, str]]) -> str:
    """How much names something unknown, in a line. unknown: (kind, how many of ``total``, an example); those of none are left out.

    >>> told("pairs", 10, [("user", 2, "u9"), ("item", 1, "i9"), ("time", 0, "")])
    "2 of 10 pairs name an unknown user (such as 'u9'), 1 of 10 an unknown item (such as 'i9')"
    """
    parts = [
        f"{count:,} of {total:,} {{}}an unknown {kind} (such as '{example[:60]}')"
        for kind, count, example in unknown
        if count
    ]
    return ", ".join(part.format(f"{what} name " if number == 0 else "") for number, part in enumerate(parts))


def settle(choice: str, what: str, total: int, unknown: Sequence[tuple[str, int, str]]) -> str | None:
    """None where all is known; with ``skip`` the line to print. Raises UserError with ``error``."""
    line = told(what, total, unknown)
    if not line:
        return None
    if choice == "skip":
        return f"left out: {line}"
    raise UserError(f"{line}; leave them out with --unknown skip")
