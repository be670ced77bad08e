"""How good item codes are, without training a recommender.

Shapes: N items, M levels, K codes of a level. Depth d means the first d codes; a group is what shares them.

    usage_l               share of the codes of level l that any item has
    perplexity_l          exp of the entropy of the codes of level l: as many equally frequent codes would be as uneven
    distinct              number of different code tuples, as a share of the items
    collision_rate        share of items whose whole tuple another item has too
    largest_group         items of the tuple that most items share
    group_p50, _p90, _p99 quantiles over items of the size of the group that an item stands in
    prefixes_d            number of different prefixes of depth d
    purity_d              share of items that have the most frequent category of their prefix group; purity_chance_d: the same with
                          the groups dealt out at random (one deal, fixed seed), for small groups are pure by themselves
    neighbour_recall_d    share of an item's NEIGHBOURS most co-occurring items in training (cosine over users) that share its prefix, mean over
                          the items that have any; neighbour_chance_d: the share of all other items that do, mean over the same items

The level that only tells colliding items apart is not among the codes given here, but for its number of codes, ``collision_codes``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    from scipy import sparse

#: Co-occurring items looked at of each item.
NEIGHBOURS = 10
#: Prefixes up to this depth are looked at; behind it hardly any two items share one.
DEPTHS = 8
QUANTILES = (50, 90, 99)


def tokenizer_report(
    codes: np.ndarray, sizes: Sequence[int], together: sparse.csr_array, categories: np.ndarray
) -> dict[str, float]:
    """The figures of the head of this file, by name.

    codes [N, M] int64 of the items 1, 2, ...; sizes: codes of each level, with one more for the level of collisions where there is one.
    together [N + 1, N + 1]: entries wherever the column's item is among the most co-occurring ones of the row's. categories [N] int64, -1 unknown.
    """
    n, levels = codes.shape
    found: dict[str, float] = {"items": n, "levels": levels}
    for level in range(levels):
        found |= {f"{name}_{level + 1}": value for name, value in level_figures(codes[:, level], sizes[level]).items()}
    groups = prefix_groups(codes)
    found |= group_figures(groups[-1])
    if len(sizes) > levels:
        found["collision_codes"] = sizes[-1]
    shuffled = np.random.default_rng(0).permutation(n)
    for depth, group in enumerate(groups[:DEPTHS], start=1):
        found[f"prefixes_{depth}"] = int(group.max(initial=-1)) + 1
        if (categories >= 0).any():
            found[f"purity_{depth}"] = purity(group, categories)
            found[f"purity_chance_{depth}"] = purity(group[shuffled], categories)
        if together.nnz:
            recall, chance = neighbour_recall(group, together)
            found |= {f"neighbour_recall_{depth}": recall, f"neighbour_chance_{depth}": chance}
    return found


def level_figures(codes: np.ndarray, size: int) -> dict[str, float]:
    """usage and perplexity of one level. codes [N] in 0..size - 1."""
    share = np.bincount(codes, minlength=size) / max(1, len(codes))
    used = share[share > 0]
    return {"usage": len(used) / size, "perplexity": float(np.exp(-(used * np.log(used)).sum()))}


def prefix_groups(codes: np.ndarray) -> list[np.ndarray]:
    """For each depth 1, ..., M: [N] int64, numbers 0, 1, ... of the groups of items that share so many codes. codes [N, M]."""
    groups = [np.zeros(len(codes), dtype=np.int64)]
    for code in codes.T:
        groups.append(np.unique(groups[-1] * (code.max(initial=0) + 1) + code, return_inverse=True)[1])
    return groups[1:]


def group_figures(group: np.ndarray) -> dict[str, float]:
    """Collisions: what becomes of the items whose whole tuple is not theirs alone. group [N]."""
    sizes = np.bincount(group)
    of_item = sizes[group]
    quantiles = {f"group_p{q}": float(np.quantile(of_item, q / 100, method="inverted_cdf")) for q in QUANTILES}
    return {
        "distinct": len(sizes) / len(group),
        "collision_rate": float((of_item > 1).mean()),
        "largest_group": int(sizes.max()),
        **quantiles,
    }


def purity(group: np.ndarray, categories: np.ndarray) -> float:
    """Share of the items with a category that have the most frequent one of their group. group, categories [N]."""
    known = categories >= 0
    pairs, counts = np.unique(np.stack([group[known], categories[known]]), axis=1, return_counts=True)
    most = np.zeros(group.max() + 1, dtype=np.int64)
    np.maximum.at(most, pairs[0], counts)
    return float(most.sum() / known.sum())


def neighbour_recall(group: np.ndarray, together: sparse.csr_array) -> tuple[float, float]:
    """(share of an item's co-occurring items in its group, the same of all other items), means over the items that have any. group [N]."""
    row = np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
    same = group[row - 1] == group[together.indices - 1]
    n_neighbours = np.diff(together.indptr)[1:]
    asked = n_neighbours > 0
    hits = np.bincount(row[same] - 1, minlength=len(group))
    others = np.bincount(group)[group] - 1
    return float((hits[asked] / n_neighbours[asked]).mean()), float((others[asked] / (len(group) - 1)).mean())


def last_categories(items: pl.DataFrame) -> np.ndarray:
    """[N] int64: a number for the last, most special category of each item, -1 where none is known."""
    names = [
        ([name for name in row or [] if name] or [None])[-1] for row in items.sort("item_id")["categories"].to_list()
    ]
    number = {name: i for i, name in enumerate(dict.fromkeys(name for name in names if name is not None))}
    return np.array([number.get(name, -1) for name in names], dtype=np.int64)
