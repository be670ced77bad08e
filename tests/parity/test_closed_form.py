"""EASE and ItemKNN against RecBole's weights, and ItemKNN's neighbourhoods against their definition."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recbench.models.counting.ease import ease_weights
from recbench.models.counting.itemknn import nearest_neighbours
from tests.parity.compare import Check, Pair, every_comparison, golden, scaled

PENALTY, SHRINKAGE, KEPT = 5.0, 3.0, 4


def _ease() -> dict[str, Pair]:
    arrays = golden("closed_form")
    seen = sparse.csr_array(arrays["x"].astype(np.float32))
    weights = ease_weights(seen, PENALTY)
    return {
        "weights": Pair(weights, arrays["ease_weights"]),
        "scores": Pair(seen @ weights, arrays["ease_scores"]),
    }


def _neighbours(kept: int) -> np.ndarray:
    seen = sparse.csr_array(golden("closed_form")["x"].astype(np.float32))
    return nearest_neighbours(seen, kept, SHRINKAGE).toarray()


def _item_knn() -> dict[str, Pair]:
    arrays = golden("closed_form")
    return {
        "all neighbours": Pair(_neighbours(24), arrays["knn_all"]),
        f"{KEPT} neighbours, transposed": Pair(_neighbours(KEPT), arrays[f"knn_{KEPT}"].T),
    }


def _item_knn_definition() -> dict[str, Pair]:
    """Of each item of the history the k items most like it [Deshpande and Karypis, 2004]."""
    seen = golden("closed_form")["x"].astype(float)
    together = seen.T @ seen
    length = np.sqrt(np.diag(together))
    similarity = together / (np.outer(length, length) + SHRINKAGE)
    np.fill_diagonal(similarity, 0)
    least = np.sort(similarity, axis=1)[:, -KEPT, None]
    kept = np.where(similarity >= least, similarity, 0)
    assert (np.count_nonzero(kept[1:], axis=1) == KEPT).all(), "two items are equally like a third"
    return {f"{KEPT} neighbours of the history's items": Pair(_neighbours(KEPT), kept)}


CHECKS = [
    Check("ease", "RUCAIBox/RecBole", "7b02be5", {"weights": scaled(1e-5), "scores": scaled(1e-5)}, _ease),
    Check(
        "itemknn",
        "RUCAIBox/RecBole",
        "7b02be5",
        {"all neighbours": scaled(1e-6), f"{KEPT} neighbours, transposed": scaled(1e-6)},
        _item_knn,
        "neighbours are kept by the item of the history here, by the item that is scored there",
    ),
    Check(
        "itemknn",
        "its definition, written out in float64",
        "-",
        {f"{KEPT} neighbours of the history's items": scaled(1e-6)},
        _item_knn_definition,
    ),
]


@every_comparison(CHECKS)
def test_equals_the_published_code(check: Check, what: str) -> None:
    check.hold(what)
