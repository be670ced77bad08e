"""InfoNCE between two views of the nodes of a batch: each is to recognise its other view among all nodes of its side.

    L = mean over the distinct nodes a of the batch of  -s(a, a) + log sum over b exp(s(a, b)),     s(a, b) = cos(first_a, second_b) / temperature

b runs over all users, or all items (``rivals=all``, as in SSLRec and RLMRec), or over the nodes of the batch (``rivals=batch``, as in SimGCL's and
XSimGCL's own code). Over all, the work is that of a softmax over a catalogue, cut into blocks (``recbench.nn.losses.wide_softmax``). A node
that stands in several rows of a batch counts once.

Shapes: B nodes, N nodes of a side, D width.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.nn.losses.wide_softmax import WideSoftmax

#: Products that exist at a time.
VALUES_AT_ONCE = 1 << 23


def both_sides(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], user: Tensor, item: Tensor, config: object
) -> Tensor:
    """The sum of the losses of users and items, each (users [U, D], items [V, D]); config has temperature and rivals."""
    users = node_contrast(first[0], second[0], user.unique(), config)
    return users + node_contrast(first[1][1:], second[1][1:], item.unique() - 1, config)


def node_contrast(first: Tensor, second: Tensor, node: Tensor, config: object) -> Tensor:
    """first, second [N, D], two views of the nodes of a side; node [B], distinct -> scalar."""
    own = F.normalize(F.embedding(node, first), dim=1)
    temperature: float = config.temperature  # type: ignore[attr-defined]
    if config.rivals == "batch":  # type: ignore[attr-defined]
        others, node = F.embedding(node, second), torch.arange(len(node), device=node.device)
    else:
        others = second
    return recognised(own, F.normalize(others, dim=1), node, temperature)


def recognised(own: Tensor, others: Tensor, place: Tensor, temperature: float) -> Tensor:
    """Mean of -log softmax over others [N, D] of own . others / temperature at place [B], of own [B, D]."""
    table = F.pad(others, (0, 0, 1, 0))  # a first row, which the softmax leaves out as the pad of a catalogue
    return cast("Tensor", WideSoftmax.apply(own / temperature, table, place + 1, False, VALUES_AT_ONCE))
