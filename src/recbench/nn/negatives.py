"""Negatives of a user: items drawn uniformly from those that the user does not have in training.

The pairs of training are held once as sorted numbers, user * V + item. A draw is a binary search in them for all users at once; what was hit is
drawn again, which takes two or three rounds, because most users have few of all items.

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


class Negatives(nn.Module):
    """The drawer; a module so that its pairs move with the model. They are never stored: they follow from the training data."""

    pairs: Tensor

    def __init__(self, train: TrainingData) -> None:
        super().__init__()
        self.n_items = train.n_items
        user, item, _ = train.flat()
        pairs = torch.unique(torch.from_numpy(user * (train.n_items + 1) + item))
        self.register_buffer("pairs", pairs, persistent=False)

    def taken(self, user: Tensor, item: Tensor) -> Tensor:
        """Whether the pairs (user, item), of any one shape, are events of training."""
        if not len(self.pairs):
            return torch.zeros_like(item, dtype=torch.bool)
        wanted = user * (self.n_items + 1) + item
        place = torch.searchsorted(self.pairs, wanted).clamp(max=len(self.pairs) - 1)
        return self.pairs[place] == wanted

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
