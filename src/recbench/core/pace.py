"""When to say how far something slow is, where no terminal shows a bar."""

from __future__ import annotations

import time


class Pace:
    """Of ``total`` pieces, ``done`` of which are there at its start: two words are a tenth of the whole and ``interval`` seconds apart, or further,
    and the first comes as late. Where the total is not known (0) seconds decide alone."""

    def __init__(self, total: int, interval: float = 30.0, done: int = 0) -> None:
        self.total, self.interval = total, interval
        self._first = self._said = done
        self._began = self._said_at = time.monotonic()

    def due(self, done: int) -> bool:
        """Whether a word is due now that ``done`` pieces are there. Not when all are: that is told by what follows."""
        now = time.monotonic()
        early = now - self._said_at < self.interval or 10 * (done - self._said) < self.total
        if early or 0 < self.total <= done:
            return False
        self._said_at, self._said = now, done
        return True

    def left(self, done: int) -> str:
        """How long the others take, if they take as long as those before."""
        return about((time.monotonic() - self._began) / max(done - self._first, 1) * (self.total - done))


def about(seconds: float) -> str:
    """
    >>> about(50), about(100), about(5400)
    ('50 s', '2 min', '1.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
