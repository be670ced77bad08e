"""The words of a call, ``"model=sasrec"`` and so on, as the command line would have them, and what a call leaves as it found it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable, Iterator

from recbench.core.errors import UserError
from recbench.core.secrets import hide

#: A word of a call, or several in a list.
Words = str | Iterable[str]

#: Where a new word may begin within one string.
KEY = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@-]*=")
OPENING, CLOSING = "([{", ")]}"


def words_of(given: Iterable[Words]) -> tuple[str, ...]:
    """One string a word. A string may hold several words with blanks between them. Raises UserError for what is no text.

    >>> words_of(["data=synthetic data.n_users=50", ["model=sasrec", "seed=1,2"]])
    ('data=synthetic', 'data.n_users=50', 'model=sasrec', 'seed=1,2')
    """
    found: list[str] = []
    for part in given:
        texts = [part] if isinstance(part, str) else part
        if not isinstance(texts, Iterable):
            raise UserError(f'cannot read {part!r}; give words as text, as in "model=sasrec"')
        for text in texts:
            if not isinstance(text, str):
                raise UserError(f'cannot read {text!r}; give words as text, as in "model=sasrec"')
            found += split(text)
    return tuple(map(hide, found))


def split(text: str) -> list[str]:
    """The words of one string. Blanks within quotes and brackets, and those that no new key follows, belong to a value.

    >>> split("data.path='my file.csv' model.duorec={weight: 0.1} seed=1")
    ["data.path='my file.csv'", 'model.duorec={weight: 0.1}', 'seed=1']
    """
    words, begin, depth, quote = [], 0, 0, ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in OPENING + CLOSING:
            depth += 1 if letter in OPENING else -1
        elif letter.isspace() and depth == 0 and KEY.match(text, place + 1):
            words.append(text[begin:place])
            begin = place + 1
    return [word.strip() for word in [*words, text[begin:]] if word.strip()]


@contextlib.contextmanager
def messages() -> Iterator[None]:
    """Messages of recbench go to stderr, as on the command line; where the caller has set up ``logging``, they go there instead."""
    from recbench.core.terminal import speak

    package = logging.getLogger("recbench")
    kept = list(package.handlers), package.level, package.propagate
    if logging.getLogger().handlers and not package.handlers:
        package.addHandler(logging.NullHandler())  # speak leaves a logger alone that somebody has seen to
    try:
        speak()
        yield
    finally:
        package.handlers[:], package.propagate = kept[0], kept[2]
        package.setLevel(kept[1])


@contextlib.contextmanager
def own_hydra() -> Iterator[None]:
    """Put back what composing a config and running a sweep change in this process: Hydra's globals, the root logger, the environment.

    So a script that is a Hydra program of its own can call us.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    hydra, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    root, environment = logging.getLogger(), dict(os.environ)
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = hydra, config
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        root.handlers[:] = handlers
        root.setLevel(level)
