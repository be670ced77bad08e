"""How recbench speaks on a terminal: messages, tables, numbers, and what every command does with a mistake of its user.

Wrong use is one line and exit status 2, Ctrl+C is 130, never a traceback.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from recbench.core.console import CleanFormatter, clean_line, console
from recbench.core.disk import explained
from recbench.core.errors import UserError, memory_error
from recbench.core.stops import exit_status_of


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the rest of recbench does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def exit_status(command: Callable[[], int], stopped: str = "stopped") -> int:
    """Runs a command, and says what a UserError says. stopped: what is said of Ctrl+C."""
    try:
        return command()
    except UserError as error:
        return complain(error)
    except KeyboardInterrupt as stop:
        print(stopped, file=sys.stderr)
        return exit_status_of(stop)
    except Exception as error:
        told = explained(error) or memory_error(error)
        if told is None:
            raise
        return complain(told)


def help_or_status(arguments: Sequence[str], about: str | None, command: Callable[[], int], stopped: str) -> int:
    """Of a command of words alone: print what it is about where ``--help`` is among them, else run it. Returns the exit status."""
    if {"--help", "-h"} & set(arguments):
        print(about)
        return 0
    speak()
    return exit_status(command, stopped)


def complain(error: object) -> int:
    """Say what is wrong, in one line without control characters and secrets; returns the exit status of wrong use."""
    print(f"error: {clean_line(error)}", file=sys.stderr)
    return 2


def open_out(folder: Path) -> Path:
    """The folder, made if it is missing. Raises UserError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make {folder}: {error.strerror or error}; choose another folder with out=PATH"
        ) from error
    return folder


def speak() -> None:
    """Messages of recbench go to stderr as plain lines, in a job of a sweep as in a single run."""
    package = logging.getLogger("recbench")
    if not package.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(CleanFormatter("%(message)s"))
        package.addHandler(handler)
        package.setLevel(logging.INFO)
        package.propagate = False  # Hydra's own handler on the root would say everything twice


def show(*things: Any) -> None:
    """Print tables and lines of text; lines are left whole, so that a path or an id can be copied."""
    made = console()
    for thing in things:
        made.print(thing, highlight=False, soft_wrap=isinstance(thing, str))


def short_number(value: float) -> str:
    """
    >>> short_number(950), short_number(12_340), short_number(3.2e9)
    ('950', '12.3k', '3.2B')
    """
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return str(int(value))
