"""Texts that a language model wrote about histories, by ``recbench write-texts`` or elsewhere, read from a file, with a check that nothing in them
comes from later.

JSON lines. The first one says how they were made, each other one is a text:

    {"model": "HuggingFaceTB/SmolLM2-135M-Instruct", "revision": "12fd25f", "prompt": "What does this person like? {titles}", "decode":
    {"temperature": 0.0}} {"user": "A1", "events": 4, "text": "Someone who ..."}        read were the user's first four events, and nothing else

Refused, by line: a text that was written for a row of validation or test, and one that holds the title of an item that the user met later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.core.errors import UserError
from recbench.data.user_text import check_no_later_title

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData

#: What the first line must say.
MADE_BY = ("model", "revision", "prompt", "decode")


@dataclass(frozen=True)
class Written:
    """One text: the user's number, how many of their first events the writer read, and what it wrote. line: in the file."""

    user: int
    events: int
    text: str
    line: int


def content_hash(path: Path) -> str:
    """Of the bytes of a file; for the keys of runs, which know no paths. Raises UserError if it is not there."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
    except OSError as error:
        raise UserError(
            f"the generated texts {path} cannot be read ({error.strerror}); name a file of JSON lines"
        ) from error


def read_texts(path: Path, data: PreparedData, train_end: np.ndarray) -> list[Written]:
    """The texts of a file, checked. train_end [U]: flat position behind each user's training events. Raises UserError, naming the line."""
    users = {name: number for number, name in enumerate(data.user_ids()["user_id"].to_list())}
    titles = ["", *((title or "").lower() for title in data.item_table()["title"].to_list())]
    lines = json_lines(path, f"the generated texts {path}")
    _, first = next(lines, (1, {}))
    lacking = [name for name in MADE_BY if name not in first]
    if lacking:
        raise UserError(f"{path}: the first line must say how the texts were made; it lacks {', '.join(lacking)}")
    found = []
    for number, row in lines:
        where = f"{path}, line {number}"
        if not isinstance(row.get("text"), str) or not isinstance(row.get("events"), int) or "user" not in row:
            raise UserError(f'{where}: a text needs "user", "events" (a whole number) and "text"')
        user = users.get(str(row["user"]))
        if user is None:
            continue  # one who did not survive the cleaning
        written = Written(user, row["events"], row["text"], number)
        _check_leak(written, where, data, int(train_end[user]), titles)
        found.append(written)
    if not found:
        raise UserError(f"{path} holds no text of any user of these data; users are named by their raw ids")
    return found


def json_lines(path: Path, said: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of each line that is not empty. said: what the file is to the user. Raises UserError, naming the line."""
    try:
        rows = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{said} cannot be read ({error}); name a file of JSON lines") from error
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        try:
            value = json.loads(row)
        except ValueError as error:
            raise UserError(f"{path}, line {number} is no JSON ({error})") from error
        if not isinstance(value, dict):
            raise UserError(f"{path}, line {number} is no JSON object")
        yield number, value


def _check_leak(written: Written, where: str, data: PreparedData, train_end: int, titles: list[str]) -> None:
    start = int(data.offsets[written.user])
    target = start + written.events
    if written.events < 1 or target >= train_end:
        raise UserError(
            f"{where} fails the leak check: its writer read {written.events} events of user {written.user}, whose training has {train_end - start}, "
            "so it was written for a row of validation or test; write texts for training rows alone"
        )
    check_no_later_title(data, written.user, target, written.text, titles, where)
