"""What a person sees while a model trains: a bar in a terminal, a line an epoch elsewhere, and lines within an epoch that takes long."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recbench.core.console import console
from recbench.core.pace import Pace

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

#: Seconds between two updates of the bar: reading the loss makes a GPU wait, drawing costs a little.
REFRESH_SECONDS = 0.5


class Progress:
    """Progress of one training: epoch, loss, validation metric, time left."""

    def __init__(self, title: str, max_epochs: int, monitor: str, terminal: bool | None = None) -> None:
        self.title, self.max_epochs, self.monitor = title, max_epochs, monitor
        self.terminal = sys.stderr.isatty() if terminal is None else terminal
        self.bar: Any = None
        self.task: Any = None
        self.shown = 0.0
        self.validation = "-"

    def epoch_starts(self, epoch: int, steps: int) -> None:
        self.done, self.steps, self.epoch, self.pace = 0, steps, epoch, Pace(steps)
        if self.terminal and self.bar is None:
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self.bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
                console=console(stderr=True),
                refresh_per_second=2,
            )
            self.bar.start()
            # The time left is an upper bound: patience may end the training sooner.
            self.task = self.bar.add_task(
                self.title, total=self.max_epochs * steps, completed=epoch * steps, figures=""
            )

    def step(self, sums: Mapping[str, Tensor], steps: int) -> None:
        self.done += 1
        now = time.monotonic()
        due = self.pace.due(self.done) if self.bar is None else now - self.shown >= REFRESH_SECONDS
        if not due:
            return
        self.shown = now
        epoch, loss = f"epoch {self.epoch + 1}/{self.max_epochs}", f"loss {float(sums['loss']) / max(steps, 1):.4f}"
        if self.bar is not None:
            self._draw(f"{epoch}  {loss}  validation {self.monitor} {self.validation}")
            return
        where = f"{epoch}  step {self.done:,} of {self.steps:,}  {loss}"
        logger.info("%s  %s  about %s left of the epoch", self.title, where, self.pace.left(self.done))

    def _draw(self, figures: str) -> None:
        self.bar.update(self.task, completed=self.epoch * self.steps + self.done, figures=figures)

    def epoch_ends(self, epoch: int, loss: float, value: float | None, best: float, best_epoch: int) -> None:
        """value: the validation metric; None after an epoch without validation."""
        line = f"epoch {epoch + 1}/{self.max_epochs}  loss {loss:.4f}"
        if value is not None:
            self.validation = f"{value:.4f} (best {best:.4f}, epoch {best_epoch + 1})"
            line += f"  validation {self.monitor} {self.validation}"
        if self.bar is not None:
            self._draw(line)
        logger.log(logging.DEBUG if self.terminal else logging.INFO, "%s  %s", self.title, line)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
