"""The one exception that stands for a mistake of the person at the keyboard, the hint that goes with it, and failures that are told as one."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable

from recbench.core.other_names import OTHER_NAMES


class UserError(Exception):
    """Something the user can mend: a typo, a missing file, data that a model cannot use.

    The message is one line that says what is wrong and what to do. The command line prints it and exits with status 2;
    any other exception is our fault and keeps its traceback.
    """


class MissingData(UserError):
    """Raw data that are not on this machine. The message says where to get them, and how large they are where that is known."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known name if one is near, and the list of all.

    >>> nearest("SASRec", ["gru4rec", "sasrec"])
    "did you mean 'sasrec'? known: gru4rec, sasrec"
    """
    names = list(known)
    close = closest(word, names)
    hint = f"did you mean '{close}'? " if close is not None else ""
    return f"{hint}known: {', '.join(names)}"


def closest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The known name that is most like a word, whatever its case, or that other tools call so; None if none is near.

    >>> closest("Leave-One-Out", ["temporal", "leave_one_out"]), closest("learning_rate", ["lr", "loss"]), closest("x", ["lr"])
    ('leave_one_out', 'lr', None)
    """
    plain: dict[str, str] = {}
    for name in known:
        plain.setdefault(plain_name(name), name)
    wanted = plain_name(word)
    for name in (wanted, *OTHER_NAMES.get(wanted, ())):
        if name in plain:
            return plain[name]
    near = difflib.get_close_matches(wanted, list(plain), n=1, cutoff=cutoff)
    return plain[near[0]] if near else None


def plain_name(name: str) -> str:
    """A name without what people type differently: case, dashes and blanks.

    >>> plain_name("Tim4Rec-Released")
    'tim4rec_released'
    """
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def first_line(error: BaseException) -> str:
    """What another library's error says in its first line; its kind where it says nothing.

    >>> first_line(ValueError("no such table\\nsee the manual")), first_line(KeyError())
    ('no such table', 'KeyError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class StoppedEarly(Exception):
    """A search gave up on a training before its end. Its checkpoint stays, so that the run can be finished when it is asked for.

    value: its best validation figure so far; search: the search's name; folder: the run's folder.
    """

    def __init__(self, reason: str, value: float, search: str, folder: object) -> None:
        super().__init__(reason, value, search, folder)  # all of them, so that it survives being pickled
        self.reason, self.value, self.search, self.folder = reason, value, search, folder

    def __str__(self) -> str:
        return self.reason


#: What torch, CUDA and the C++ library say where memory is short.
_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|_ALLOC_FAILED|std::bad_alloc|unable to allocate",
    re.IGNORECASE,
)
_ON_GPU = re.compile(r"CUDA|CUBLAS|CUDNN|\bGPU\b|\bHIP\b")
_WANTED = re.compile(r"(?:tried|unable) to allocate ([\d.]+) ?([KMGTPE]i?B|bytes)", re.IGNORECASE)


def memory_error(error: BaseException, doing: str = "") -> UserError | None:
    """The one line for a failed allocation, of torch or NumPy, on the CPU or a GPU; None for any other error.

    doing: what was being made, such as a run's key.
    """
    text = str(error)
    kinds = {kind.__name__ for kind in type(error).__mro__}
    is_memory = (
        isinstance(error, MemoryError)
        or "OutOfMemoryError" in kinds
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and _NO_MEMORY.search(text) is not None)
    )
    if not is_memory:
        return None
    place = "the GPU" if _ON_GPU.search(text) else "this machine"
    found = _WANTED.search(text)
    wanted = "" if found is None else f" for another {_size(*found.groups())}"
    return UserError(
        f"not enough memory on {place}{wanted}{f', in {doing}' if doing else ''}: lower training.batch_size, training.max_length or the sizes of the "
        "model, or run fewer jobs at a time (hydra.launcher.n_jobs, --jobs)"
    )


def _size(number: str, unit: str) -> str:
    """A size in a unit that a person reads."""
    if unit != "bytes":
        return f"{number} {unit}"
    value = float(number)
    for larger in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} bytes" if larger == "bytes" else f"{value:.1f} {larger}"
        value /= 1024
    return f"{value:,.1f} TiB"
