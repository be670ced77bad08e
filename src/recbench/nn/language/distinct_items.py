"""Each item of a step once: what a text tower has to encode, and where its vectors belong.

A repeated item then has one vector, so its dropout is drawn once a step, where a plain module draws it at every place.
"""

from __future__ import annotations

import torch
from torch import Tensor


def distinct_items(*ids: Tensor) -> tuple[Tensor, list[Tensor]]:
    """(the different items among all ``ids``, sorted, without the pad [N]; for each of ``ids`` the places of its items, from 1, 0 at pads).

    >>> items, (first, second) = distinct_items(torch.tensor([[7, 3], [7, 0]]), torch.tensor([9]))
    >>> items.tolist(), first.tolist(), second.tolist()
    ([3, 7, 9], [[2, 1], [2, 0]], [3])
    """
    found, where = torch.cat([part.flatten() for part in ids]).unique(return_inverse=True)
    n_pads = int((found == 0).sum())
    places = [
        part.view(given.shape)
        for part, given in zip((where + 1 - n_pads).split([x.numel() for x in ids]), ids, strict=True)
    ]
    return found[n_pads:], places


def with_pad(vectors: Tensor) -> Tensor:
    """[N, H] -> [N + 1, H] with a row of zeros in front, which the places of pads point to."""
    return torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])
