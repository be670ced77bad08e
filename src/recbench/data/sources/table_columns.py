"""Which column of a file is meant by a name in the config."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TypeVar

from recbench.core.errors import UserError, nearest
from recbench.data.sources.separators import guess, said, typed
from recbench.data.sources.table_config import Columns, ItemColumns, TableConfig
from recbench.data.sources.table_open import Table
from recbench.data.sources.text_table import TYPED, TextFormat, TextTable

C = TypeVar("C", Columns, ItemColumns)

#: What RecBole calls the columns that we call so by default.
USUAL = {"user": "user_id", "item": "item_id"}


def text_format(config: TableConfig, header: bool) -> TextFormat:
    """How the text files of a table are written."""
    separator = None if config.separator is None else typed(config.separator)
    return TextFormat(separator, header, config.quote, config.encoding)


def find_columns(configured: C, key: str, table: Table) -> C:
    """The configured names as the file has them; ``user_id`` stands for ``user_id:token`` of a typed header.

    Raises UserError, with the nearest column, if a name is not a column of the file, or is that of several.
    """
    present = table.schema.names()
    matches = [TYPED.fullmatch(name) for name in present]
    # All of the header, or it is no typed one: a colon may stand in a name.
    bare = {m[1]: name for m, name in zip(matches, present, strict=True) if m} if all(matches) else {}
    found = {}
    for part in fields(configured):
        name = getattr(configured, part.name)
        if name is None:
            continue
        if bare and name not in present:
            name = bare.get(name) or (bare.get(USUAL.get(part.name, "")) if name == part.name else None) or name
        if name not in present:
            raise UserError(_missing(part.name, name, key, table, present))
        if table.doubled(name):
            raise UserError(
                f"{table.path} has several columns called '{name}' (data.{key}.{part.name}); rename all but one"
            )
        found[part.name] = name
    return replace(configured, **found)


def _missing(part: str, name: str, key: str, table: Table, present: list[str]) -> str:
    hint = "" if part in ("user", "item") else f" (or set data.{key}.{part}=null if there is none)"
    if name.isdecimal() and not all(other.isdecimal() for other in present):
        flag = "header" if key == "columns" else "items_header"
        hint += f" (columns have numbers in a file without a header: data.{flag}=false)"
    known = f"data.{key}.{part}={name} is not a column of {table.path}; {nearest(name, present)}{hint}"
    return known + (_about_separator(table) if isinstance(table, TextTable) else "")


def _about_separator(table: TextTable) -> str:
    """What to say of the separator where the columns are not those that were expected."""
    likely = guess(table.first_lines, None, table.how.header)
    if likely != table.separator and likely in table.first_lines[0]:
        return f"; the first line holds {said(likely)}: data.separator={_shell(likely)}"
    if len(table.names) == 1 or (table.guessed and not table.usual):
        return f"; columns are cut at {said(table.separator)}, another: data.separator"
    return ""


def _shell(separator: str) -> str:
    word = said(separator)
    return word if word.isalpha() else f'"{word}"'
