"""The collector of cyclic garbage while a command imports what it needs.

Imports make some million objects that stay, and Python's collector walks through all there are whenever their number has grown by a quarter: one of
the four and a half CPU seconds before a training begins. A command lets it leave the old ones alone until then; a training has it as ever, but
for the objects of the imports, which it never looks at again. From Python the process is the caller's, and nothing is changed.
"""

from __future__ import annotations

import gc

#: Looks at objects of middle age before the old ones are looked at while a command imports; 10 as Python has it.
LOOKS = 1_000

_before: tuple[int, int, int] | None = None


def leave_the_old() -> None:
    """Let the collector look at the old objects seldom from now on, where it looks at all and at these more often."""
    global _before
    young, middle, old = gc.get_threshold()
    if gc.isenabled() and young and old < LOOKS:
        _before = young, middle, old
        gc.set_threshold(young, middle, LOOKS)


def look_as_ever() -> None:
    """Take ``leave_the_old`` back, and never look again at what there is now; without effect where nothing was changed."""
    global _before
    if _before is not None:
        gc.freeze()
        gc.set_threshold(*_before)
        _before = None
