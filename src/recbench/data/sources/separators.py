"""What stands between the columns of a text file: as people type it, or guessed from the first lines."""

from __future__ import annotations

import re

from recbench.core.errors import UserError

#: Any run of blanks and tabs.
BLANKS = r"\s+"
#: What people type for a separator that is hard to type.
WORDS = {
    "\\t": "\t", "tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "colon": ":", "space": " ", "blank": " ", "blanks": BLANKS,
    "\\s+": BLANKS, "\\x01": "\x01", "ctrl-a": "\x01",
}  # fmt: skip
#: What may be guessed, before a blank, which is guessed only if there is none of these.
LIKELY = ("\t", ";", ",", "|", "::", "\x01")
#: Share of lines that must have as many of a separator as the first line has.
ALIKE = 0.8


def typed(separator: str) -> str:
    """The separator that a person means. Raises UserError for one that cannot be.

    >>> typed("tab"), typed(r"\\t"), typed("::")
    ('\\t', '\\t', '::')
    """
    found = WORDS.get(separator.lower(), separator)
    if not found or set(found) & set('\r\n"\0'):
        raise UserError(
            f"data.separator={separator!r} cannot separate columns; give a character, several such as '::', or a word: "
            "tab, comma, semicolon, pipe, space, blanks"
        )
    return found


def said(separator: str) -> str:
    """A separator as a person may read and type it.

    >>> said("\\t"), said(";")
    ('tab', "';'")
    """
    names = {"\t": "tab", " ": "space", BLANKS: "blanks", "\x01": "ctrl-a"}
    return names.get(separator, f"'{separator}'")


def guess(lines: list[str], usual: str | None, header: bool) -> str:
    """The separator of a file by its first lines, without the empty ones. usual: that of its ending, taken where it fits.

    >>> guess(["user;item", "u;a,b"], ",", header=True), guess(["1::7::5", "1::8::5"], None, header=False)
    (';', '::')
    """
    bare = [re.sub(r'"[^"]*"', "", line) for line in lines] or [""]
    score = {candidate: _score(bare, candidate) for candidate in LIKELY}
    if usual is not None and bare[0].count(usual) and (header or score[usual] >= max(score.values())):
        return usual
    best = max(LIKELY, key=lambda candidate: score[candidate])
    if not score[best]:
        best = max(LIKELY, key=lambda candidate: bare[0].count(candidate)) if header else best
        if not bare[0].count(best):
            if " " not in bare[0].strip():
                return usual or ","
            return BLANKS if any("  " in line.strip() for line in bare) else " "
    return best


def _score(lines: list[str], separator: str) -> int:
    """How many of a separator the first line has, if most lines have as many."""
    counts = [line.count(separator) for line in lines]
    return counts[0] if counts.count(counts[0]) >= ALIKE * len(counts) else 0
