"""Values that were written as text."""

from __future__ import annotations


def typed(text: str) -> bool | int | float | str:
    """What a text says: a truth value or a number where it is one, as Python writes them; else the text.

    >>> typed("True"), typed("3"), typed("1e-3"), typed("sasrec")
    (True, 3, 0.001, 'sasrec')
    """
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
