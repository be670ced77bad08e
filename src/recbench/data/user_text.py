"""What is said of each user in words, such as a profile that a language model wrote: a column of the table of users.

    data.users.path=profiles.parquet data.users.user=uid data.users.text=profile

Refused is a text that holds the title of an item which the user met after training, so that no profile tells what is asked for. (That it was not
written from reviews or ratings of those items cannot be checked.)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.core.errors import UserError
from recbench.data.beside import content_of, named_files
from recbench.data.local_files import local_users
from recbench.data.schema import DataConfig
from recbench.data.user_attributes import columns_of_users, rows_of_users

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData

#: Titles of fewer letters say nothing: "red" stands in many a text.
LEAST_LETTERS = 8
#: Stands for a title that was cut; shorter than any of these, so that cutting comes to an end.
CUT = "..."


def has_user_text(config: DataConfig) -> bool:
    """Whether a column of texts is named."""
    return bool(config.users.path and config.users.text)


def user_text_key(config: DataConfig, cache_dir: Path) -> dict[str, Any]:
    """All that decides the texts besides the users: part of the key of a run that reads them. Raises UserError for a file that is not there."""
    config = local_users(config, cache_dir)
    asked = config.users
    files = content_of(named_files(asked.path, config, "data.users.path"), cache_dir)
    return {"files": files, "how": [asked.user, asked.text, asked.header, asked.separator, asked.encoding]}


def user_texts(data: PreparedData, config: DataConfig, cache_dir: Path, train_end: np.ndarray) -> list[str]:
    """[U] the text of each user, "" where there is none. train_end [U]: flat position behind each user's training events.

    Raises UserError for a table that cannot be used, that says nothing of the users, or whose texts hold later items.
    """
    config = local_users(config, cache_dir)
    asked = config.users
    assert asked.text is not None
    files = named_files(asked.path, config, "data.users.path")
    table = columns_of_users(files, config, {asked.text: "text"}, "data.users.text")
    texts = [text or "" for text in rows_of_users(data, table, "data.users.text")["text"].to_list()]
    if not any(texts):
        raise UserError(f"data.users.text: the column '{asked.text}' is empty for all {data.n_users:,} users")
    names = data.user_ids()["user_id"].to_list()
    titles = ["", *((title or "").lower() for title in data.item_table().sort("item_id")["title"].to_list())]
    for user, text in enumerate(texts):
        if text:
            check_no_later_title(
                data, user, int(train_end[user]), text, titles, f"data.users.text of user '{names[user]}'"
            )
    return texts


def check_no_later_title(
    data: PreparedData, user: int, position: int, text: str, titles: list[str], where: str
) -> None:
    """Raise UserError, which says ``where``, if a text holds the title of an item that its user first met at ``position`` or later.

    titles: [V] in lower case.
    """
    told = text.lower()
    start, end = int(data.offsets[user]), int(data.offsets[user + 1])
    known = {titles[item] for item in np.asarray(data.items[start:position]).tolist()}
    for item in np.asarray(data.items[position:end]).tolist():
        title = titles[item]
        if len(title) >= LEAST_LETTERS and title not in known and title in told:
            raise UserError(
                f'{where} fails the leak check: it holds the title "{title[:60]}" of an item that user {user} met later; write '
                "it from the history alone"
            )


def without_unread_titles(text: str, titles: Sequence[str], read: Collection[str]) -> tuple[str, int]:
    """(a text in which "..." stands for each title of an item that its writer did not read, how many were cut).

    A language model may guess a title that it was not told. What is cut depends on what was read and on the catalogue, never on what the user did
    later; what is left passes ``check_no_later_title``. titles: of the catalogue, in lower case; read: those of the history.

    >>> without_unread_titles("Wants a Garden Hose, and red things", ["garden hose", "red"], [])
    ('Wants a ..., and red things', 1)
    """
    n_cut, told = 0, text.lower()
    while found := [title for title in titles if len(title) >= LEAST_LETTERS and title in told and title not in read]:
        title = max(found, key=len)
        if len(told) != len(text):  # letters that are two in lower case
            text = told
        place = told.index(title)
        text = text[:place] + CUT + text[place + len(title) :]
        n_cut, told = n_cut + 1, text.lower()
    return text, n_cut
