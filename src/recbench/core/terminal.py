"""What the small commands share: wrong use is one line and exit status 2, Ctrl+C is 130, never a traceback."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from recbench.core.errors import UserError


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the rest of recbench does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def exit_status(command: Callable[[], int], stopped: str = "stopped") -> int:
    """Runs a command, and says what a UserError says. stopped: what is said of Ctrl+C."""
    try:
        return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130


def open_out(folder: Path) -> Path:
    """The folder, made if it is missing. Raises UserError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make {folder}: {error.strerror or error}; choose another folder with out=PATH"
        ) from error
    return folder
