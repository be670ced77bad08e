"""Vectors of items that came with the data (images, texts), as one frozen table beside a model's own.

Shapes: V = n_items + 1 rows (row 0 is the pad), W width of a kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.core.errors import UserError, nearest


def frozen_table(features: Mapping[str, Tensor], kinds: Sequence[str], width: int, n_items: int) -> Tensor:
    """[V, kinds * width]: the vectors of each kind side by side, ``width`` numbers each, of length 1; 0 where an item has none.

    Wider vectors are reduced to their principal components, narrower ones filled up with zeros. Without any ``features`` (a stored run, whose
    table is read afterwards) all is 0. Raises UserError for a kind that the data do not have, and for one that is named twice.
    """
    if len(set(kinds)) < len(kinds):
        raise UserError(f"model.features={list(kinds)} names a kind twice")
    table = torch.zeros(n_items + 1, len(kinds) * width)
    for place, kind in enumerate(kinds if features else ()):
        if kind not in features:
            raise UserError(
                f"model.features names '{kind}', and the data have no vectors of that kind; {nearest(kind, features)}"
            )
        found = reduced(features[kind], width)
        table[:, place * width : place * width + found.shape[1]] = found
    return table


def reduced(vectors: Tensor, width: int) -> Tensor:
    """[V, W] -> [V, at most width], rows of length 1. Components come from the rows that are not 0; such rows stay 0."""
    there = vectors.abs().sum(1) > 0
    if vectors.shape[1] > width:
        from sklearn.decomposition import PCA

        known = vectors[there].numpy()
        if len(known) > width:
            made = torch.from_numpy(PCA(width, svd_solver="covariance_eigh").fit_transform(known).astype(np.float32))
        else:  # fewer rows than components: the plane that they span holds them all
            made = torch.from_numpy(np.linalg.qr(known.T)[1].T.astype(np.float32))
        vectors = vectors.new_zeros(len(vectors), made.shape[1]).index_copy_(0, there.nonzero()[:, 0], made)
    return F.normalize(vectors, dim=1)
