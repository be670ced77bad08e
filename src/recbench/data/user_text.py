"""What is said of each user in words, such as a profile that a language model wrote: a column of the table of users.

    data.users.path=profiles.parquet data.users.user=uid data.users.text=profile

Refused is a text that holds the title of an item which the user met after training, so that no profile tells what is asked for. (That it was not
written from reviews or ratings of those items cannot be checked.)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.core.errors import UserError
from recbench.data.beside import content_of, named_files, read_columns
from recbench.data.schema import DataConfig
from recbench.data.sources.raw_lines import BadRows, shown

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData

#: Titles of fewer letters say nothing: "red" stands in many a text.
LEAST_LETTERS = 8


def has_user_text(config: DataConfig) -> bool:
    """Whether a column of texts is named."""
    return bool(config.users.path and config.users.text)


def user_text_key(config: DataConfig, cache_dir: Path) -> dict[str, Any]:
    """All that decides the texts besides the users: part of the key of a run that reads them. Raises UserError for a file that is not there."""
    asked = config.users
    files = content_of(named_files(asked.path, config, "data.users.path"), cache_dir)
    return {"files": files, "how": [asked.user, asked.text, asked.header, asked.separator, asked.encoding]}


def user_texts(data: PreparedData, config: DataConfig, train_end: np.ndarray) -> list[str]:
    """[U] the text of each user, "" where there is none. train_end [U]: flat position behind each user's training events.

    Raises UserError for a table that cannot be used, that knows none of the users, or whose texts hold later items.
    """
    asked = config.users
    assert asked.text is not None
    files = named_files(asked.path, config, "data.users.path")
    how = asked.separator, asked.header, asked.encoding
    table = read_columns(files, [asked.user, asked.text], how, BadRows(config.bad_rows), "data.users.text", needed=1)
    if (twice := table.filter(table[asked.user].is_duplicated())).height:
        raise UserError(
            f"data.users: the user {shown(repr(twice[asked.user][0]))} stands more than once; give each user one row"
        )
    known = dict(zip(table[asked.user].to_list(), table[asked.text].to_list(), strict=True))
    names = data.user_ids()["user_id"].to_list()
    texts = [known.get(name) or "" for name in names]
    if not any(texts):
        raise UserError(
            f"data.users.text knows none of the {data.n_users:,} users; its first is {shown(repr(next(iter(known))))}, that of the data "
            f"{shown(repr(names[0]))}; is data.users.user the right column?"
        )
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
