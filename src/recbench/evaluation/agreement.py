"""How far two models recommend the same: their lists for the same users, held side by side.

    Agr@K   mean over users of |A intersect B| / K
    RBO     (1 - p) / (1 - p^K) sum over d = 1..K of p^(d - 1) |A_d intersect B_d| / d        [Webber et al., TOIS 2010, cut at K]

A_d are the first d places of a list. Both are 1 for equal lists; RBO looks at the order, and at the top more than at the rest. Neither says which
list is better.

Shapes: C cases, K places.
"""

from __future__ import annotations

import numpy as np

from recbench.core.errors import UserError
from recbench.evaluation.lists.stability import overlap

#: Weight of a place against the one before it: nine tenths of RBO lie in the first 20 places or so.
PERSISTENCE = 0.9


def agreement(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """[C] share of the K places whose items both lists hold. ours, theirs [C, K] item ids, 0 where a list is shorter.

    >>> agreement(np.array([[1, 2, 3, 4]]), np.array([[4, 9, 8, 1]])).tolist()
    [0.5]
    """
    _check_shapes(ours, theirs)
    return overlap(ours, theirs, ours.shape[1])


def rank_biased_overlap(ours: np.ndarray, theirs: np.ndarray, p: float = PERSISTENCE) -> np.ndarray:
    """[C] in 0..1. ours, theirs [C, K] item ids, best first."""
    _check_shapes(ours, theirs)
    places = np.arange(1, ours.shape[1] + 1)
    weight = p ** (places - 1.0)
    return np.stack([overlap(ours, theirs, d) for d in places], axis=1) @ weight / weight.sum()


def _check_shapes(ours: np.ndarray, theirs: np.ndarray) -> None:
    if ours.shape != theirs.shape:
        raise UserError(
            f"lists of {ours.shape} and {theirs.shape} cannot be held side by side; ask both for the same users and length"
        )
