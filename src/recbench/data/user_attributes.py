"""Attributes of users, such as gender and age: read from a table, or made by a source that knows some.

    data.users.path=users.csv data.users.user=uid data.users.attributes=[gender,age]

All values are words; what is not known of a user is null. No model may read them to rank; who asks for them says so in its own key
(``users_key``). They are read anew when they are asked for: the table has a row a user.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.core.errors import UserError, nearest
from recbench.data.beside import content_of, named_files, opened, read_columns
from recbench.data.impressions import beside_values
from recbench.data.local_files import local_users
from recbench.data.schema import DataConfig
from recbench.data.sources import lookup
from recbench.data.sources.raw_lines import BadRows, shown

if TYPE_CHECKING:
    import polars as pl

    from recbench.data.beside_config import UsersConfig
    from recbench.data.prepared import PreparedData
    from recbench.data.sources.raw_lines import RawText

log = logging.getLogger(__name__)

#: Raised whenever the same table would give other attributes.
USERS_VERSION = 1


def has_user_attributes(config: DataConfig) -> bool:
    """Whether anything is known of the users of these data."""
    beside = lookup(config.name).beside
    told = "user_table" in beside or ("user_file" in beside and getattr(config, "knows_users", True))
    return bool(config.users.path) or told


def users_key(config: DataConfig, cache_dir: Path) -> dict[str, Any]:
    """All that decides the attributes besides the users: part of the key of a run that reads them. Raises UserError for a file that is not there."""
    config = local_users(config, cache_dir)
    asked = config.users
    if not asked.path and (read := lookup(config.name).beside.get("user_file")) is not None:
        return {"version": USERS_VERSION, "files": read(config, cache_dir).content}
    if not asked.path:
        return {"version": USERS_VERSION, "made_by": beside_values(config)}
    files = content_of(named_files(asked.path, config, "data.users.path"), cache_dir)
    how = [asked.user, asked.attributes, asked.header, asked.separator, asked.encoding, config.bad_rows]
    return {"version": USERS_VERSION, "files": files, "how": how}


def user_attributes(data: PreparedData, config: DataConfig, cache_dir: Path) -> pl.DataFrame:
    """[U rows] user (0..U-1, sorted), then the attributes, strings, null where nothing is known. cache_dir: where a
    table at an address is fetched to.

    Raises UserError for a table that cannot be used, has a user twice, or knows none of the users.
    """
    import polars as pl

    found = rows_of_users(data, _table(local_users(config, cache_dir), cache_dir), "data.users")
    return found.with_columns(pl.exclude("user").cast(pl.String))


def rows_of_users(data: PreparedData, table: pl.DataFrame, key: str) -> pl.DataFrame:
    """[U rows] user (0..U-1, sorted), then the columns of a table by raw id (``user``), null for a user that it does not know.

    key: what names the table, for messages. Raises UserError for one that has a user twice, or knows none of the users.
    """
    twice = table.filter(table["user"].is_duplicated())
    if twice.height:
        raise UserError(
            f"data.users: the user {shown(repr(twice['user'][0]))} stands more than once; give each user one row"
        )
    users = data.user_ids()
    found = users.join(table, left_on="user_id", right_on="user", how="left", maintain_order="left")
    known = int(users["user_id"].is_in(table["user"].implode()).sum())
    if not known:
        raise UserError(
            f"{key} knows none of the {data.n_users:,} users; its first is {shown(repr(table['user'][0]))}, that of the data "
            f"{shown(repr(users['user_id'][0]))}; is data.users.user the right column?"
        )
    log.info(
        "users: %s of %s are in the table; %s rows are of users that the data do not have",
        *(f"{n:,}" for n in (known, data.n_users, table.height - known)),
    )
    return found.drop("user_id")


def numbered(known: Mapping[str, Sequence[str | None]], attribute: str) -> tuple[np.ndarray, list[str]]:
    """(number of each user's value [U], -1 where it is not known; the values, sorted). known: attribute -> a word for each user.

    Raises UserError for an attribute that is not there, or has fewer than two values.
    """
    if attribute not in known:
        raise UserError(f"nothing is known of the users' '{attribute}'; {nearest(attribute, list(known))}")
    words = known[attribute]
    values = sorted({word for word in words if word is not None})
    if len(values) < 2:
        raise UserError(f"all users have the same {attribute}, so there is nothing to tell; choose another attribute")
    number = {word: place for place, word in enumerate(values)}
    return np.array([-1 if word is None else number[word] for word in words]), values


def _table(config: DataConfig, cache_dir: Path) -> pl.DataFrame:
    """user (raw id) and the attributes."""
    asked = config.users
    if not asked.path and (read := lookup(config.name).beside.get("user_file")) is not None:
        return read(config, cache_dir).table
    if not asked.path:
        make = lookup(config.name).beside.get("user_table")
        if make is None:
            raise UserError(f"data={config.name} knows nothing of its users; name a table with data.users.path=FILE")
        return make(config)
    files = named_files(asked.path, config, "data.users.path")
    attributes = list(asked.attributes) or [
        name for name in opened(files[0], _how(asked)).schema.names() if name not in (asked.user, asked.text)
    ]
    if "user" in attributes:
        raise UserError("an attribute cannot be called 'user'; leave that column out of data.users.attributes")
    return columns_of_users(files, config, {name: name for name in attributes}, "data.users.path")


def columns_of_users(files: list[RawText], config: DataConfig, columns: Mapping[str, str], key: str) -> pl.DataFrame:
    """user (raw id) and some columns of the table ``data.users.path``, which lies in ``files``. columns: name there -> name here. key: what names
    the columns, for messages."""
    asked, bad = config.users, BadRows(config.bad_rows)
    table = read_columns(files, [asked.user, *columns], _how(asked), bad, key, needed=1)
    if bad.total:
        log.warning("users: rows dropped: %s; first: %s", f"{bad.total:,}", bad.first)
    return table.rename({asked.user: "user", **columns})


def _how(asked: UsersConfig) -> tuple[str | None, bool, str]:
    return asked.separator, asked.header, asked.encoding
