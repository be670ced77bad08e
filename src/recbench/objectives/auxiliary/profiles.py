"""Profiles of users and items for RLMRec: the vector of an item's text, and of a user the mean over its training items (ours).

The authors have profiles written by a language model from purchases and reviews; whether those read test items cannot be checked, as they are not
public here. These read training events alone. ``data.text.path`` takes vectors that somebody else made, of items.

Shapes: U users, V = n_items + 1, F width of the text vectors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.models.collaborative.entities import EntityModel


def profiles(model: EntityModel, shuffle: int | None) -> tuple[Tensor, Tensor]:
    """(users [U, F], items [V, F]), of length 1 or 0. shuffle: a seed that deals the profiles of items out anew, as a control.

    Raises UserError for a model that was built without text vectors.
    """
    if model.text_vectors is None:
        raise UserError("rlmrec needs a vector of each item's text, which these data do not give")
    items = F.normalize(model.text_vectors, dim=1)
    if shuffle is not None:
        order = 1 + torch.randperm(len(items) - 1, generator=torch.Generator().manual_seed(shuffle))
        items = torch.cat([items[:1], items[order]])
    _, item, _ = model.training_data().flat()
    start = torch.from_numpy(model.training_data().end - model.training_data().start).cumsum(0)
    offsets = F.pad(start, (1, 0))
    ids = torch.from_numpy(item).long()
    if not len(ids):
        return items.new_zeros(model.n_users, items.shape[1]), items
    sums = F.embedding_bag(ids, items, offsets, mode="sum", include_last_offset=True)
    return F.normalize(sums, dim=1), items


def network(first: int, last: int) -> nn.Sequential:
    """Two linear layers with a leaky step between them, the inner one half as wide as both ends together."""
    inner = (first + last) // 2
    return nn.Sequential(nn.Linear(first, inner), nn.LeakyReLU(), nn.Linear(inner, last))
