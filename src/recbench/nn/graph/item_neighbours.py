"""A graph of items that are alike by vectors of theirs: each item's k nearest by the cosine, made once and never learned [FREEDOM, DGVAE].

As in FREEDOM's code, an item is its own first neighbour, the graph is not made symmetric, and each edge has the weight 1/k of its kind of vectors.
The cosines are computed some rows at a time, so nothing of the size V x V is held. An item without a vector has no neighbour, and is none.

Shapes: V = n_items + 1, k neighbours, E edges.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.nn.graph.sparse_graph import SparseGraph
from recbench.nn.graph.strongest import strongest_first

#: Cosines that are held at once.
CELLS_AT_ONCE = 1 << 24


def nearest(vectors: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(item [E], neighbour [E]) by the cosine of vectors [V, D]; of equally near ones those with the smaller numbers."""
    known = vectors.any(dim=1).nonzero()[:, 0]
    unit = F.normalize(vectors[known].float(), dim=1)
    rows, k = max(1, CELLS_AT_ONCE // max(1, len(known))), min(k, len(known))
    found = [largest(unit[first : first + rows] @ unit.T, k) for first in range(0, len(known), rows)]
    near = torch.cat(found) if found else known.new_zeros(0, 0)
    return known.repeat_interleave(k), known[near.flatten()]


def largest(values: Tensor, k: int) -> Tensor:
    """[B, k] the columns of the k largest of each row of values [B, V], largest first, of equal ones those that stand first.

    What a stable sort of whole rows gives, from a partial one; ``topk`` alone leaves open which of equal values it takes.
    """
    last = values.topk(k, dim=1).values[:, -1:]
    # By row and then by column; more than k of a row where several equal its last.
    row, column = (values >= last).nonzero(as_tuple=True)
    order, place = strongest_first(row, values[row, column])
    return column[order[place < k]].view(len(values), k)


def item_graph(features: Mapping[str, Tensor], shares: Mapping[str, float], k: int) -> SparseGraph:
    """The mean of the neighbours by each kind of vectors, weighted by the kinds' shares: [V, V]."""
    rows, columns, weights = [], [], []
    for kind, table in features.items():
        item, near = nearest(table, k)
        rows.append(item)
        columns.append(near)
        # Of fewer items than k all are neighbours, and the mean is theirs.
        weights.append(torch.full((len(item),), shares[kind] / max(1, min(k, int(table.any(1).sum())))))
    size = len(next(iter(features.values())))
    return SparseGraph.of(torch.cat(rows), torch.cat(columns), size, torch.cat(weights))


def shares_of(kinds: list[str], image_share: float) -> dict[str, float]:
    """The weight of each kind: ``image_share`` of the image where there are others too, and the rest in equal parts.

    >>> shares_of(["image", "audio", "text"], 0.2)
    {'image': 0.2, 'audio': 0.4, 'text': 0.4}
    """
    if "image" not in kinds or len(kinds) == 1:
        return {kind: 1 / len(kinds) for kind in kinds}
    rest = (1 - image_share) / (len(kinds) - 1)
    return {kind: image_share if kind == "image" else rest for kind in kinds}
