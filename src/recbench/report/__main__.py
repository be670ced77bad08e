"""``python -m recbench.report NAME``: write and print the table of a study from the runs that are there. Trains nothing."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 for wrong use. The work is that of ``python -m recbench.study NAME --table``."""
    from recbench.study.__main__ import main as study

    given = sys.argv[1:] if arguments is None else arguments
    return study([*given, "--table"], program="recbench.report")


if __name__ == "__main__":
    sys.exit(main())
