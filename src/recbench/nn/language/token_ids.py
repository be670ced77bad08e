"""One numbering for all that a language model over item codes reads: special tokens, words, and codes.

Four spaces of numbers meet in such a model. ``TokenIds`` knows all four, and every conversion between them goes through it:

    items       1..n_items; 0 is the pad
    codes       of an item at each level 0..size - 1; -1 at the pad
    rows        of a table of vectors, each kind of token having one: special tokens, words, and the codes of all levels one after the other
    ids         what stands in a sequence: 0 for nothing, then the special tokens, then the words, then the codes

Shapes: V = n_items + 1, S levels, N tokens of any shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor


class Kind(Enum):
    """What a token is."""

    SPECIAL = "special"
    WORD = "word"
    CODE = "code"


@dataclass(frozen=True)
class TokenIds:
    """n_special, n_words: how many tokens of these kinds there are · level_sizes: how many codes each level has.

    >>> ids = TokenIds(n_special=2, n_words=3, level_sizes=(4, 5))
    >>> [ids.first(kind) for kind in Kind], len(ids)
    ([1, 3, 6], 15)
    """

    n_special: int
    n_words: int
    level_sizes: tuple[int, ...]

    def first(self, kind: Kind) -> int:
        """The first id of a kind."""
        return {Kind.SPECIAL: 1, Kind.WORD: 1 + self.n_special, Kind.CODE: 1 + self.n_special + self.n_words}[kind]

    def count(self, kind: Kind) -> int:
        """How many tokens a kind has."""
        return {Kind.SPECIAL: self.n_special, Kind.WORD: self.n_words, Kind.CODE: sum(self.level_sizes)}[kind]

    def __len__(self) -> int:
        """Ids that there are, 0 among them."""
        return 1 + sum(self.count(kind) for kind in Kind)

    def is_kind(self, ids: Tensor, kind: Kind) -> Tensor:
        """ids [N] -> [N] bool."""
        return (ids >= self.first(kind)) & (ids < self.first(kind) + self.count(kind))

    def to_rows(self, ids: Tensor, kind: Kind) -> Tensor:
        """ids [N], all of this kind -> rows of its table [N]."""
        return ids - self.first(kind)

    def from_rows(self, rows: Tensor, kind: Kind) -> Tensor:
        """Rows of the kind's table [N], -1 for none -> ids [N], 0 for none."""
        return torch.where(rows >= 0, rows + self.first(kind), 0)

    def of_words(self, words: Tensor) -> Tensor:
        """Words numbered from 1 [N], 0 for none -> ids [N]."""
        return self.from_rows(words - 1, Kind.WORD)

    def of_items(self, codes: Tensor) -> Tensor:
        """Codes of the items [V, S], -1 at the pad -> ids [V, S], 0 at the pad."""
        sizes = torch.tensor(self.level_sizes, device=codes.device)
        rows = torch.where(codes >= 0, codes + sizes.cumsum(0) - sizes, -1)
        return self.from_rows(rows, Kind.CODE)

    def by_level(self, ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """For each level (which of the ids [N] are its codes [N] bool, the codes of those [n])."""
        first = self.first(Kind.CODE)
        for size in self.level_sizes:
            here = (ids >= first) & (ids < first + size)
            yield here, ids[here] - first
            first += size
