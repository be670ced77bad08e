"""What all prompts begin with, read once: keys and values that every row then finds before it.

Examples of training users stand before every prompt, and make most of it; the rotations of one list stand behind one history.

Shapes: B rows, A tokens that all begin with, Q tokens behind them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.nn.language.prompt import sees_before


class SharedBeginning(NamedTuple):
    """A, and keys and values of these tokens; 0 and None where nothing is shared. The answers are what ``Backbone.read`` takes behind its vectors."""

    length: int
    cache: Any

    def for_plain(self, rows: int, n: int) -> tuple[Any, Tensor | None, Tensor | None]:
        """(cache, mask, positions) of rows of n tokens, each of which sees itself and all before it."""
        if not self.length:
            return None, None, None
        device = self.cache.layers[0].keys.device
        mask = sees_before(self.length, n, device)
        positions = torch.arange(self.length, self.length + n, device=device)
        return self.cache, mask.expand(rows, -1, -1), positions.expand(rows, -1)

    def for_masked(self, mask: Tensor, positions: Tensor) -> tuple[Any, Tensor, Tensor]:
        """The same of rows with a mask [B, Q, Q] and positions [B, Q] of their own."""
        if not self.length:
            return None, mask, positions
        return self.cache, F.pad(mask, (self.length, 0), value=True), positions + self.length


def common_length(rows: Iterable[Sequence[int]]) -> int:
    """Tokens that all rows begin with.

    >>> common_length([[1, 2, 3], [1, 2, 4, 5], [1, 2]])
    2
    """
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))
