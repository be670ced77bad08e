"""Secrets in addresses: the user and password of ``scheme://user:password@host``, and the values of such as ``?token=...``.

``hide`` takes them out of the words of a command line before anything else sees those: a mark stands in their place, in configs, run folders,
error messages and MLflow alike. ``reveal`` puts them back where a connection is opened, and nowhere else. ``redact`` is for text that was made
by others, such as the message of a database driver: whatever looks like a secret, or is known to be one, becomes the mark.

What was hidden is kept in this process and, for the processes that it starts, in an environment variable.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

#: Stands in the place of a secret. A second secret of the same place, as in a sweep over two users, is ``***2``.
MARK = "***"
#: What this process hid, for the processes that it starts.
VARIABLE = "RECBENCH_SECRETS"

_MARKED = re.compile(r"\*\*\*\d*")
#: An address ends at a blank, at a quote, or where the next one of a list begins.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://((?:(?!,[A-Za-z][A-Za-z0-9+.-]*://)[^\s'\"<>])+)")
#: ``viewStateShareKey`` names a saved view in MLflow's own links, which we print.
_QUERY = re.compile(
    r"(?<=[?&;])(?!viewStateShareKey=)([^=&;#]*(?:pass|pwd|token|secret|key|sig|auth|credential)[^=&;#]*)=([^&;#]+)",
    re.IGNORECASE,
)
#: Schemes whose addresses may hold an '@' in a path.
_WITH_PATHS = ("http", "s3", "gs", "ftp", "file", "sqlite", "hf")
#: Names of environment variables that hold a secret, such as MLFLOW_TRACKING_PASSWORD and HF_TOKEN.
_SECRET_NAME = re.compile(
    r"(PASSWORD|PASSWD|PASSPHRASE|_PASS|(^|_)TOKEN|(^|_)SECRET|SECRET_KEY|ACCESS_KEY|API_?KEY|CREDENTIALS?)$",
    re.IGNORECASE,
)
#: Shorter values of variables are left alone: "true" and "1" stand in every text. Up to ALONE letters they count as whole words only.
_LEAST, _ALONE = 4, 7
_NO_SECRETS = ("true", "false", "none", "null", "yes", "no")

#: By place: "scheme://MARK@host" -> "user:password", "scheme://host?name=MARK" -> the value.
_hidden: dict[str, str] = {}


def hide(text: str) -> str:
    """A word with its secrets replaced by marks, which ``reveal`` knows in this process and in those that it starts.

    >>> hide("tracking.uri=postgresql://me:secret@db.example/mlflow")  # doctest: +ELLIPSIS
    'tracking.uri=postgresql://***...@db.example/mlflow'
    >>> reveal(hide("postgresql://me:secret@db.example/mlflow"))
    'postgresql://me:secret@db.example/mlflow'
    """
    return _each_address(text, _remember)


def hide_values(values: Any) -> Any:
    """The same for all text in plain values, such as those of a YAML file."""
    return _mapped(values, hide)


def reveal(text: str) -> str:
    """An address as it was before ``hide``. Marks that nobody here hid stay marks."""
    _take_over()
    return _each_address(text, lambda place, name, mark: _hidden.get(_place(place, name, mark), mark))


def redact(text: str) -> str:
    """Text of whatever origin without secrets: those of addresses, those that were hidden, and the values of variables such as HF_TOKEN.

    >>> redact("cannot open http://me:pw@host:5000/a?token=abc&x=1")
    'cannot open http://***@host:5000/a?token=***&x=1'
    """
    text = redact_addresses(text)
    known = _known()
    return known.sub(MARK, text) if known is not None else text


def redact_addresses(text: str) -> str:
    """``redact`` for values that are read again: nothing but the secrets of addresses is replaced."""
    return _each_address(text, lambda place, name, secret: MARK)


def redact_values(values: Any) -> Any:
    """``redact_addresses`` for all text in plain values."""
    return _mapped(values, redact_addresses)


def _mapped(values: Any, change: Callable[[str], str]) -> Any:
    if isinstance(values, str):
        return change(values) if "://" in values else values
    if isinstance(values, Mapping):
        return {key: _mapped(value, change) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(_mapped(value, change) for value in values)
    return values


def _each_address(text: str, change: Callable[[str, str, str], str]) -> str:
    """Put ``change(place, name, secret)`` for every secret. place: ``scheme://host``; name: of the part of a query, "" for user and password."""
    if "://" not in text:
        return text

    def changed(found: re.Match[str]) -> str:
        scheme, rest = found[1], found[2]
        length = _user_length(scheme.lower(), rest)
        user, rest = rest[: max(length - 1, 0)], rest[length:]
        place = f"{scheme}://{re.split('[/?#]', rest, maxsplit=1)[0]}"
        rest = _QUERY.sub(lambda part: f"{part[1]}={change(place, part[1], part[2])}", rest)
        return f"{scheme}://" + (f"{change(place, '', user)}@" if length else "") + rest

    return _ADDRESS.sub(changed, text)


def _user_length(scheme: str, rest: str) -> int:
    """Letters of ``user:password@`` at the beginning; 0 where there is none. A password may hold '/', '?' and '#' as people type them."""
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in host:
        return host.rindex("@") + 1
    _, colon, port = host.partition(":")
    if "@" not in rest or not colon or host.startswith("["):
        return 0
    return rest.rindex("@") + 1 if not port.isdigit() or not scheme.startswith(_WITH_PATHS) else 0


def _place(place: str, name: str, mark: str) -> str:
    scheme, _, host = place.partition("://")
    return f"{scheme}://{host}?{name}={mark}" if name else f"{scheme}://{mark}@{host}"


def _remember(place: str, name: str, secret: str) -> str:
    if _MARKED.fullmatch(secret):
        return secret
    _take_over()
    number = 1
    while _hidden.setdefault(_place(place, name, mark := MARK + (str(number) if number > 1 else "")), secret) != secret:
        number += 1
    os.environ[VARIABLE] = json.dumps(_hidden)
    return mark


def _take_over() -> None:
    """What the process that started this one hid."""
    if not _hidden and VARIABLE in os.environ:
        try:
            _hidden.update(json.loads(os.environ[VARIABLE]))
        except (ValueError, TypeError):
            return


def _known() -> re.Pattern[str] | None:
    """Matches the secrets that are known; None without any."""
    _take_over()
    secrets, users = [], []
    for place, hidden in _hidden.items():
        user, colon, password = hidden.partition(":") if "?" not in place else ("", "", hidden)
        secrets += [password if colon or not user else user]
        users += [user] if colon else []
    secrets += [value for name, value in os.environ.items() if _SECRET_NAME.search(name)]
    words = {form for secret in secrets for form in (secret, unquote(secret))}
    kept = tuple(sorted((w for w in words if len(w) >= _LEAST and w.lower() not in _NO_SECRETS), key=len, reverse=True))
    return _pattern(kept, tuple(sorted({user for user in users if user})))


def _pattern(secrets: tuple[str, ...], users: tuple[str, ...]) -> re.Pattern[str] | None:
    """Drivers quote the user, as in ``authentication failed for user "me"``; elsewhere its letters may be any word."""
    parts = [re.escape(s) if len(s) > _ALONE else rf"(?<!\w){re.escape(s)}(?!\w)" for s in secrets]
    for user in map(re.escape, users):
        parts += [rf"(?<=[\"'`]){user}(?=[\"'`])", rf"(?<=\buser ){user}\b", rf"(?<=\brole ){user}\b"]
    return re.compile("|".join(parts)) if parts else None
