"""What a latent says: the attribute of the last item or of the next one that its firing tells best, found on half of the users and held against the
other half.

    concept of latent j = (attribute value, threshold) of the highest F1 on half A;   confidence = its F1 on half B

Shapes: N states, m latents, A attribute values, k active latents a state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    import polars as pl

    from recbench.data.prepared import PreparedData

#: Firing counts from these quantiles of a latent's own activations on half A.
THRESHOLDS = (0.0, 0.5, 0.8)
#: Values of an attribute that are met less often are left out: no F1 of a handful says anything.
LEAST_STATES = 20
#: A latent is a detector of one item if one last item makes more than this share of its strong activations.
ITEM_SHARE = 0.5


@dataclass(frozen=True)
class Attributes:
    """names [A] such as ``next category: Hair Care``; has [N, A] sparse bool; of_items [A]: the items (bool [V]) that bear it, for lists."""

    names: list[str]
    has: sparse.csr_array
    of_items: np.ndarray


@dataclass(frozen=True)
class Concepts:
    """Of each latent [m]: best attribute (-1: none), threshold, F1 on half A, confidence (F1 on half B), share of states where it fires."""

    attribute: np.ndarray
    threshold: np.ndarray
    found: np.ndarray
    confidence: np.ndarray
    rate: np.ndarray


def item_attributes(data: PreparedData, counts: np.ndarray) -> dict[str, np.ndarray]:
    """kind -> [V] object array of values, None where not known: category (second level), brand, price and popularity in four groups."""
    import polars as pl

    table = data.item_table().sort("item_id")
    lists = pl.col("categories").list
    category = table.select(lists.get(1, null_on_oob=True).fill_null(lists.last()))["categories"]
    columns = {
        "category": category.to_list(),
        "brand": table["brand"].to_list(),
        "price": _quarters(table["price"]),
        "popularity": _quarters(pl.Series(counts[1:].astype(np.float64))),
    }
    return {kind: np.array([None, *values], dtype=object) for kind, values in columns.items() if any(v for v in values)}


def _quarters(values: pl.Series) -> list[str | None]:
    import polars as pl

    if values.is_null().all():
        return [None] * len(values)
    names = ["lowest quarter", "second quarter", "third quarter", "highest quarter"]
    edges = np.unique(np.quantile(values.drop_nulls().to_numpy(), [0.25, 0.5, 0.75]))
    place = np.searchsorted(edges, values.fill_null(0.0).to_numpy(), side="right")
    named = pl.Series([names[i] for i in place])
    return pl.select(pl.when(values.is_not_null()).then(named).otherwise(None)).to_series().to_list()


def attributes_of(last: np.ndarray, following: np.ndarray, kinds: dict[str, np.ndarray], n_items: int) -> Attributes:
    """last, following [N]: the items before and after each state."""
    names: list[str] = []
    columns: list[np.ndarray] = []
    of_items: list[np.ndarray] = []
    for place, items in (("last", last), ("next", following)):
        for kind, values in kinds.items():
            for value in sorted({v for v in values if v}):
                bears = values == value
                rows = np.flatnonzero(bears[items])
                if len(rows) >= LEAST_STATES:
                    names.append(f"{place} {kind}: {value}")
                    columns.append(rows)
                    of_items.append(bears)
    lengths = [len(rows) for rows in columns]
    column = np.repeat(np.arange(len(columns)), lengths)
    rows = np.concatenate(columns) if columns else np.zeros(0, dtype=np.int64)
    has = sparse.csr_array((np.ones(len(rows), dtype=np.float32), (rows, column)), shape=(len(last), len(columns)))
    return Attributes(names, has, np.array(of_items) if of_items else np.zeros((0, n_items + 1), dtype=bool))


def find_concepts(
    values: np.ndarray, which: np.ndarray, m: int, attributes: Attributes, half_a: np.ndarray
) -> Concepts:
    """values, which [N, k]: activations and their latents; half_a [N] bool."""
    n = len(values)
    row = np.repeat(np.arange(n), values.shape[1])
    fires = sparse.csr_array((values.ravel(), (row, which.ravel())), shape=(n, m))
    fires.eliminate_zeros()
    rate = np.bincount(fires.indices, minlength=m) / n
    best = np.zeros(m)
    attribute, threshold, confidence = np.full(m, -1), np.zeros(m), np.zeros(m)
    cuts = _cuts(fires[half_a].tocsc(), m)
    for cut in cuts:
        a, b = (_f1(fires[part], cut, attributes.has[part]) for part in (half_a, ~half_a))
        if not a.shape[1]:
            break
        chosen = a.argmax(1)
        score = a[np.arange(m), chosen]
        better = score > best
        best[better], attribute[better], threshold[better] = score[better], chosen[better], cut[better]
        confidence[better] = b[np.arange(m), chosen][better]
    return Concepts(attribute, threshold, best, confidence, rate)


def _cuts(fires: sparse.csc_array, m: int) -> list[np.ndarray]:
    """For each of THRESHOLDS, [m] the activation that a latent must exceed."""
    found = np.zeros((len(THRESHOLDS), m))
    for latent in range(m):
        own = fires.data[fires.indptr[latent] : fires.indptr[latent + 1]]
        if len(own):
            found[:, latent] = np.quantile(own, THRESHOLDS)
    found[0] = 0.0
    return list(found)


def _f1(fires: sparse.csr_array, cut: np.ndarray, has: sparse.csr_array) -> np.ndarray:
    """[m, A]."""
    strong = sparse.csr_array(
        ((fires.data > cut[fires.indices]).astype(np.float32), fires.indices, fires.indptr), shape=fires.shape
    )
    both = (strong.T @ has).toarray()
    total = np.asarray(strong.sum(0)).ravel()[:, None] + np.asarray(has.sum(0)).ravel()[None]
    return np.divide(2.0 * both, total, out=np.zeros_like(both), where=total > 0)


def item_detectors(values: np.ndarray, which: np.ndarray, m: int, last: np.ndarray) -> np.ndarray:
    """[m] bool: one last item makes more than ITEM_SHARE of the strongest tenth of a latent's activations."""
    found = np.zeros(m, dtype=bool)
    order = np.argsort(which.ravel(), kind="stable")
    bounds = np.searchsorted(which.ravel()[order], np.arange(m + 1))
    row = np.repeat(np.arange(len(values)), values.shape[1])
    flat = values.ravel()
    for latent in range(m):
        own = order[bounds[latent] : bounds[latent + 1]]
        own = own[flat[own] > 0]
        if len(own):
            strong = own[np.argsort(-flat[own], kind="stable")[: max(1, len(own) // 10)]]
            counts = np.unique(last[row[strong]], return_counts=True)[1]
            found[latent] = counts.max() > ITEM_SHARE * len(strong) and len(strong) > 1
    return found
