"""Being stopped from outside: Ctrl+C, and signals that ask a process to end, which clean up as Ctrl+C does and are recorded by their names."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

#: Signals that end a run as Ctrl+C does: a scheduler's, and that of a terminal which was closed.
SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """One of SIGNALS came."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = int(number)


def stop(number: int, frame: Any = None) -> NoReturn:
    """A signal handler."""
    raise Stopped(number)


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Within it the SIGNALS raise Stopped, unless they are ignored, as under nohup, or somebody handles them who knows better."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def reason_of(stopped: KeyboardInterrupt) -> str:
    """What ended it, in words.

    >>> reason_of(KeyboardInterrupt()), reason_of(Stopped(signal.SIGTERM))
    ('stopped from the keyboard', 'stopped by SIGTERM')
    """
    return (
        f"stopped by {signal.Signals(stopped.number).name}"
        if isinstance(stopped, Stopped)
        else "stopped from the keyboard"
    )


def exit_status_of(stopped: KeyboardInterrupt) -> int:
    """128 and the signal's number, as a shell has it."""
    return 128 + (stopped.number if isinstance(stopped, Stopped) else signal.SIGINT)


def note_folder(stopped: KeyboardInterrupt, folder: Any) -> None:
    """Remember which run folder was being made; the first one noted is the innermost, and stays."""
    if folder_of(stopped) is None:
        stopped.__dict__["folder"] = folder


def folder_of(stopped: KeyboardInterrupt) -> Any:
    """The run folder that was being made; None if there was none."""
    return stopped.__dict__.get("folder")
