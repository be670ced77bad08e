"""The one exception that stands for a mistake of the person at the keyboard, and the hint that goes with it."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend: a typo, a missing file, data that a model cannot use.

    The message is one line that says what is wrong and what to do. The command line prints it and exits with status 2;
    any other exception is our fault and keeps its traceback.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known name if one is near, and the list of all."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(names)}"


class StoppedEarly(Exception):
    """A search gave up on a training before its end. Its checkpoint stays, so that the run can be finished when it is asked for.

    value: its best validation figure so far; search: the search's name; folder: the run's folder.
    """

    def __init__(self, reason: str, value: float, search: str, folder: object) -> None:
        super().__init__(reason, value, search, folder)  # all of them, so that it survives being pickled
        self.reason, self.value, self.search, self.folder = reason, value, search, folder

    def __str__(self) -> str:
        return self.reason
