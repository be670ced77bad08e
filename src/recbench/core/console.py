"""What may reach a terminal: text without control characters and without secrets, whoever made it.

File names, item ids, titles and messages of libraries come from outside. An escape sequence in one of them could clear the screen, colour it,
or type an answer. So all that is written passes through here: messages, tables, and, within ``filtered_output``, whatever else is printed.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

from recbench.core.secrets import redact

if TYPE_CHECKING:
    from rich.console import Console

#: Stands in the place of a character that is not shown.
SHOWN = "?"
#: C0 without tab and line end, DEL, C1, what turns the direction of writing, and halves of characters that no encoding knows.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
#: The same without the carriage return, by which the bars of libraries begin their line anew.
_CONTROL_BUT_RETURN = re.compile(_CONTROL.pattern.replace("\x0b-\x1f", "\x0b\x0c\x0e-\x1f"))
#: Width of tables that go to a file or a pipe.
PLAIN_WIDTH = 150


def clean(text: str) -> str:
    """Text without control characters; tabs and line ends stay.

    >>> clean("a title\\x1b[2J, and\\x07 more")
    'a title?[2J, and? more'
    """
    return _CONTROL.sub(SHOWN, text)


def clean_line(text: object) -> str:
    """One line that may be shown, and holds no secret: for messages of errors."""
    return clean(" ".join(redact(str(text)).splitlines())).strip()


def clean_json(text: str) -> str:
    """JSON whose characters that must not reach a terminal are escaped, so that nothing of the data is lost.

    >>> clean_json('"a\\x9bb"')
    '"a\\\\u009bb"'
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class CleanFormatter(logging.Formatter):
    """Lines of a log without control characters and secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return clean(redact(super().format(record)))


class CleanStream:
    """A stream whose text is filtered on its way out; in everything else the stream itself."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(_CONTROL_BUT_RETURN.sub(SHOWN, redact(text)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def filtered_output() -> Iterator[None]:
    """Within it, what anybody prints to stdout and stderr is filtered."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        cast(Any, s if s is None or isinstance(s, CleanStream) else CleanStream(s)) for s in (out, err)
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


def console(stderr: bool = False) -> Console:
    """rich's console for tables and bars: it draws with control characters of its own, and none of the text's passes.

    What users typed is no markup: a list in brackets would vanish, or be an error.
    """
    import rich.console

    class Clean(rich.console.Console):
        def render(self, renderable: Any, options: Any = None) -> Iterable[Any]:
            for segment in super().render(renderable, options):
                unclean = not segment.control and _CONTROL.search(segment.text)
                yield segment._replace(text=clean(segment.text)) if unclean else segment

    stream = sys.stderr if stderr else sys.stdout
    file = stream.stream if isinstance(stream, CleanStream) else None
    made = Clean(file=file, stderr=stderr, markup=False, emoji=False)
    return made if made.is_terminal else Clean(file=file, stderr=stderr, markup=False, emoji=False, width=PLAIN_WIDTH)
