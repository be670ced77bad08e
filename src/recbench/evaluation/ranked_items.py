"""A catalogue of which only some items are ranked (``protocol.cold_items=drop``): the others are taken out before ranking, as if they were not there.

Shapes: B rows of a block, W = n_items + 1 columns, V = ranked items + 1, k places of a list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from torch import Tensor

from recbench.evaluation.ranking import Seen, without
from recbench.evaluation.top_k import top_k_lists


@dataclass(frozen=True)
class RankedItems:
    """The ranked items under running numbers of their own, and back. columns [V] int64: the pad and the ranked items; number [W] int64: place among
    them, 0 for an item that is not ranked. Both None: every item is ranked, and nothing is copied."""

    columns: Tensor | None = None
    number: Tensor | None = None

    @classmethod
    def of(cls, ranked: np.ndarray | None, device: torch.device | str) -> RankedItems:
        """ranked [W] bool, False for the pad; None: all."""
        if ranked is None:
            return cls()
        columns = np.concatenate([[0], np.flatnonzero(ranked)])
        number = np.zeros(len(ranked), np.int64)
        number[columns] = np.arange(len(columns))
        return cls(torch.from_numpy(columns).to(device), torch.from_numpy(number).to(device))

    def n_items(self, n_items: int) -> int:
        """How many items are ranked of a catalogue of ``n_items``."""
        return n_items if self.columns is None else len(self.columns) - 1

    def scores(self, scores: Tensor) -> Tensor:
        """[B, W] -> [B, V]."""
        return scores if self.columns is None else scores.index_select(1, self.columns)

    @overload
    def numbers(self, items: Tensor) -> Tensor: ...
    @overload
    def numbers(self, items: None) -> None: ...
    def numbers(self, items: Tensor | None) -> Tensor | None:
        """Items of the catalogue by their running numbers."""
        return items if self.number is None or items is None else self.number[items]

    def items(self, numbers: Tensor) -> Tensor:
        """Running numbers [B, k] as items of the catalogue, of the same type."""
        return numbers if self.columns is None else self.columns[numbers.long()].to(numbers.dtype)

    def best(self, scores: Tensor, k: int, user: Tensor, seen: Seen) -> Tensor:
        """``top_k_lists`` of scores [B, V] as items of the catalogue [B, k]; 0 fills a list that is longer than there are ranked items."""
        lists = self.items(top_k_lists(scores, k, user, seen))
        return torch.nn.functional.pad(lists, (0, k - lists.shape[1])) if self.columns is not None else lists

    def seen(self, seen: Seen) -> Seen:
        """What was seen and is ranked."""
        if self.number is None:
            return seen
        number = self.number[seen.item]
        return Seen(seen.row[number > 0], number[number > 0])

    def lists(self, items: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Lists [B, k] of items without those that are not ranked; later ones move up, and 0 with a score of -inf fills the end. A place that held no
        item stays."""
        if self.number is None:
            return items, scores
        return without(items, scores, (items > 0) & (self.number[items] == 0))
