"""Progress of a long transfer or read, or of many things that are made: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Any

from recbench.core.console import console
from recbench.core.pace import Pace

log = logging.getLogger(__name__)

#: Without a terminal: seconds from one line to the next, at least.
LINE_INTERVAL = 5.0


class Progress:
    """``with Progress("reading x.gz", total_bytes) as progress: progress.to(done)``. An unknown total is None. unit: what is counted in place of
    bytes, as in "texts"."""

    def __init__(self, title: str, total: int | None, done: int = 0, unit: str = "") -> None:
        self.title, self.total, self.done, self.unit = title, total, done, unit
        self._bar = _bar(title, total, done, unit) if sys.stderr.isatty() else None
        self._pace = Pace(total or 0, LINE_INTERVAL, done)

    def to(self, done: int) -> None:
        """Report how much is done so far."""
        self.done = done
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)
            return
        if self._pace.due(done):
            scale, unit = (1, self.unit) if self.unit else (1e6, "MB")
            share = f" of {self.total / scale:,.0f} {unit} ({done / self.total:.0%})" if self.total else f" {unit}"
            log.info("%s: %s%s", self.title, f"{done / scale:,.0f}", share)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar(title: str, total: int | None, done: int, unit: str) -> Any:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    counted = (MofNCompleteColumn(), TextColumn(unit)) if unit else (DownloadColumn(), TransferSpeedColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), *counted, TimeRemainingColumn())
    bar = Bar(*columns, console=console(stderr=True), transient=True)
    bar.add_task(title, total=total, completed=done)
    return bar
