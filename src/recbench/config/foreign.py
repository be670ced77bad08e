"""Values from files that may be a stranger's: tuned values, studies, search spaces. They choose what is computed, and nothing else.

Such a file may set no place on this machine and no address, and read nothing of it: with ``${oc.env:NAME}`` a run would carry a variable of
this machine into its config, its folder and its tracking store. Places belong on the command line, which is the user's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from recbench.core.errors import UserError

#: Keys that say where something lies, or how Hydra itself works.
PLACES = ("runs_dir", "cache_dir", "data.raw_dir", "data.mirror", "tracking.uri")
#: The variables that our own studies read: folders with the weights that they otherwise take from the hub or the cache.
_OWN_VARIABLE = re.compile(r"\$\{oc\.env:RECBENCH_(MINILM|LANGUAGE_MODEL),[^${}]*\}")


def refuse_foreign_word(word: str, file: str) -> None:
    """Raise UserError for a word of a file, such as ``data.path=/etc/x``, that sets a place or reads this machine."""
    key, _, text = word.partition("=")
    key = key.lstrip("+~").partition("@")[0].replace("/", ".")
    _refuse_key(key, file)
    _refuse_reading(key, _OWN_VARIABLE.sub("", text), file)
    for name, value in _leaves(key, _parsed(word, text)):
        _refuse_key(name, file)
        _refuse_value(name, value, file)


def refuse_foreign_values(values: Mapping[str, Any], file: str, known: tuple[str, ...]) -> None:
    """The same for nested values. known: the only names at their top."""
    for key in values:
        if key not in known:
            raise UserError(
                f"{file} sets '{key}'; such a file may set {' and '.join(known)} alone. Say it on the command line"
            )
    for name, value in _leaves("", values):
        _refuse_reading(name, str(value), file)
        _refuse_value(name, value, file)


def _parsed(word: str, text: str) -> Any:
    """The value of a word as Hydra reads it; of what it cannot read, the text: Hydra will say so."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        found = OverridesParser.create().parse_override(word)
        return [str(v) for v in found.sweep_string_iterator()] if found.is_sweep_override() else found.value()
    except (HydraException, ValueError):
        return text


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(f"{name}.{key}".lstrip("."), part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(name, part)
    else:
        yield name, value


def _refuse_key(key: str, file: str) -> None:
    if key.partition(".")[0] == "hydra" or key in PLACES:
        raise UserError(
            f"{file} sets {key}, a place of this machine; take it out, and say it on the command line where you want it"
        )


def _refuse_reading(key: str, text: str, file: str) -> None:
    if "${" in text:
        raise UserError(
            f"{file} would read a value of this machine ({key}={text[:80]}); write the value itself, or say it on the command line"
        )


def _refuse_value(key: str, value: Any, file: str) -> None:
    """A path that leaves the working folder, or an address, whatever key it is for."""
    text = str(value).strip()
    if text.startswith(("/", "~", "\\")) or "://" in text or ".." in re.split(r"[/\\]", text):
        raise UserError(
            f"{file} names a place of this machine ({key}={text[:80]}); take it out, and say it on the command line: {key}=PLACE"
        )
