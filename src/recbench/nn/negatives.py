"""Negatives of a user: items drawn uniformly from those that the user does not have in training.

The pairs of training are held once as sorted numbers, user * V + item. A draw asks for all users at once whether it hit one: first a table of
bytes, in which the number of each pair has marked the place that its hash says, and then, for the few that stand on a mark, a binary search. What
was hit is drawn again, which takes two or three rounds, because most users have few of all items.

Shapes: B users, n negatives of each, V = n_items + 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from recbench.data.training import TrainingData

#: After so many rounds what is left stays as drawn: of a user who has nearly all items there may be no negative at all.
ROUNDS = 50
#: Places of the table of bytes for each pair, at least: an unmarked place is read in a sixth of the time of a search.
PLACES = 8
#: An odd number that spreads the pairs of one user (2^64 over the golden ratio, as a signed number).
SPREAD = 0x9E3779B97F4A7C15 - 2**64


class Negatives(nn.Module):
    """The drawer; a module so that its pairs move with the model. They are never stored: they follow from the training data."""

    pairs: Tensor
    marked: Tensor  # [2^k] bool

    def __init__(self, train: TrainingData) -> None:
        super().__init__()
        self.n_items = train.n_items
        user, item, _ = train.flat()
        pairs = torch.unique(torch.from_numpy(user * (train.n_items + 1) + item))
        self.register_buffer("pairs", pairs, persistent=False)
        self.bits = max(PLACES * len(pairs) - 1, 1).bit_length()
        marked = torch.zeros(1 << self.bits, dtype=torch.bool)
        marked[self.place_of(pairs)] = True
        self.register_buffer("marked", marked, persistent=False)

    def place_of(self, pair: Tensor) -> Tensor:
        """The place in the table of bytes of each pair's number: the upper bits of its product with an odd number."""
        return (pair * SPREAD >> (64 - self.bits)) & ((1 << self.bits) - 1)

    def taken(self, user: Tensor, item: Tensor) -> Tensor:
        """Whether the pairs (user, item), of any one shape, are events of training."""
        wanted = user * (self.n_items + 1) + item
        found = self.marked[self.place_of(wanted)]
        on_mark = found.nonzero(as_tuple=True)
        left = wanted[on_mark]
        found[on_mark] = self.pairs[torch.searchsorted(self.pairs, left).clamp(max=len(self.pairs) - 1)] == left
        return found

    def draw(self, user: Tensor, n: int = 1) -> Tensor:
        """[B, n] items for user [B], with torch's generator."""
        owner = user[:, None].expand(-1, n).reshape(-1)
        found = torch.randint(1, self.n_items + 1, owner.shape, device=user.device)
        again = self.taken(owner, found).nonzero()[:, 0]
        for _ in range(ROUNDS):
            if not len(again):
                break
            found[again] = torch.randint(1, self.n_items + 1, again.shape, device=user.device)
            again = again[self.taken(owner[again], found[again])]
        return found.view(-1, n)
