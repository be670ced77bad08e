"""Where vectors of items, a knowledge graph and a table of users are read from: settings only.

They decide nothing about the prepared data, so they enter neither their key nor that of a run that reads none of it; what is read is known by
the content of the files, wherever they lie. The readers are ``recbench.data.features``, ``knowledge`` and ``user_attributes``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recbench.core.errors import UserError

#: Kinds of vectors that have a key.
KINDS = ("image", "audio", "text")
#: In place of a file of text vectors: those that are made of the items' texts, as ``data.text`` says.
TITLES = "titles"


@dataclass
class FeaturesConfig:
    """image, audio, text: a .npy (also .npy.gz), .npz or .parquet file with a vector for each item; text: also ``titles``."""

    image: str | None = None
    audio: str | None = None
    text: str | None = None
    #: A seed: the vectors are dealt out among the items anew, those of one item together. The control of every model that reads them.
    shuffle: int | None = None

    def files(self) -> dict[str, str]:
        """Kind -> file, for the kinds that come from one."""
        return {
            kind: path
            for kind in KINDS
            if (path := getattr(self, kind)) is not None and (kind, path) != ("text", TITLES)
        }

    @property
    def reads_titles(self) -> bool:
        return self.text == TITLES

    def validate(self) -> None:
        """Raises UserError for a seed that is none."""
        _check_seed("data.features.shuffle", self.shuffle)


@dataclass
class KnowledgeConfig:
    """path: triples, a row each: head, relation, tail are the first three columns. items: which entity an item is: raw item id and entity are the
    first two columns; null: entities are named as items are. Both are files as for ``data.path`` of ``data=table``."""

    path: Any = None
    items: Any = None
    header: bool = False  # whether the first line of a text file names columns
    separator: str | None = None  # between columns of text files; null: guessed
    encoding: str = "utf-8"
    #: A seed: the tails of each relation are dealt out among its triples anew. Every entity keeps its degree; what is said of it is of another.
    rewire: int | None = None

    def validate(self) -> None:
        """Raises UserError for values that contradict each other."""
        _check_seed("data.knowledge.rewire", self.rewire)
        if self.items and not self.path:
            raise UserError(
                "data.knowledge.items says which entity an item is; name the triples with data.knowledge.path=FILE"
            )


@dataclass
class UsersConfig:
    """path: a table of users, a row each, in any form that ``data.path`` of ``data=table`` may have."""

    path: Any = None
    user: str = "user"  # the column of raw user ids, or its number from 1 without a header
    attributes: list[str] = field(
        default_factory=list
    )  # the columns that are attributes; empty: all but that of the user
    header: bool = True
    separator: str | None = None
    encoding: str = "utf-8"
    text: str | None = None  # the column that says something of a user in words, for models that read it

    def validate(self) -> None:
        """Raises UserError for a column that is asked for twice, and for a text without a table."""
        if self.text and not self.path:
            raise UserError("data.users.text names a column; name the table with data.users.path=FILE")
        twice = {name for name in self.attributes if self.attributes.count(name) > 1}
        if twice or self.user in self.attributes:
            raise UserError(f"data.users names the column '{next(iter(twice), self.user)}' twice; name each once")


def _check_seed(key: str, seed: int | None) -> None:
    if seed is not None and seed < 0:
        raise UserError(f"{key} must be a seed from 0, or null, not {seed}")
