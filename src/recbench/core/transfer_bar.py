"""Progress of a long transfer or read: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Any

from recbench.core.console import console

log = logging.getLogger(__name__)

#: Without a terminal, say something every tenth of the way but not more often than this, in seconds.
LINE_INTERVAL = 5.0


class Progress:
    """``with Progress("reading x.gz", total_bytes) as progress: progress.to(done)``. An unknown total is None."""

    def __init__(self, title: str, total: int | None, done: int = 0) -> None:
        self.title, self.total, self.done = title, total, done
        self._bar = _bar(title, total, done) if sys.stderr.isatty() else None
        self._said_at, self._said_done = time.monotonic(), done

    def to(self, done: int) -> None:
        """Report the number of bytes done so far."""
        self.done = done
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)
            return
        step = (self.total or 0) / 10
        if time.monotonic() - self._said_at >= LINE_INTERVAL and done - self._said_done >= step:
            share = f" of {self.total / 1e6:,.0f} MB ({done / self.total:.0%})" if self.total else " MB"
            log.info("%s: %s%s", self.title, f"{done / 1e6:,.0f}", share)
            self._said_at, self._said_done = time.monotonic(), done

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar(title: str, total: int | None, done: int) -> Any:
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    bar = Bar(*columns, console=console(stderr=True), transient=True)
    bar.add_task(title, total=total, completed=done)
    return bar
