"""A word now and then while something slow is ranked, as by a language model: how far it is and how long it may still take."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger(__name__)

#: Seconds from one word to the next, at least; what is over sooner says nothing.
INTERVAL = 30.0


class Pace:
    """``to(done)`` after each piece of ``total`` histories. Words are a tenth of the whole apart, or further."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._began = self._said_at = time.monotonic()
        self._said = 0

    def to(self, done: int) -> None:
        now = time.monotonic()
        if now - self._said_at < INTERVAL or 10 * (done - self._said) < self.total or done >= self.total:
            return
        left = (now - self._began) / done * (self.total - done)
        logger.info("%s of %s histories ranked, about %s left", f"{done:,}", f"{self.total:,}", about(left))
        self._said_at, self._said = now, done


def about(seconds: float) -> str:
    """
    >>> about(50), about(100), about(5400)
    ('50 s', '2 min', '1.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
