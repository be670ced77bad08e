"""Accuracy metrics from ranks. Each is defined here, with its formula and an example worked by hand that runs as a
test.

A case is a user with a history and one or several targets, the set of relevant items ``rel``; every target has a rank
from 1. A metric is computed for each case and then averaged over cases, each with equal weight (where every event is a
case of its own, ``temporal`` with ``target=successive``, active users therefore count more). With one target a case,
recall would equal hit rate and precision would be hit rate over k, so those two are given only where some case has
several.

Ranks are expected ranks, so they may be halves, and several targets tied with each other share one rank. Then more than
k targets may have a rank of at most k; counts are therefore cut at k, and NDCG at 1.

Shapes: T targets, C cases. All functions take rank [T] and case [T] (which case each target belongs to, in any order)
and return [C] in ascending order of case. A k beyond the number of ranked items means all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

#: Optimistic and pessimistic NDCG are reported where they differ by more than this.
TIE_TOLERANCE = 1e-4


def _sum_by_case(values: np.ndarray, case: np.ndarray) -> np.ndarray:
    _, index = np.unique(case, return_inverse=True)
    return np.bincount(index, weights=values)


def _best_rank(rank: np.ndarray, case: np.ndarray) -> np.ndarray:
    present, index = np.unique(case, return_inverse=True)
    best = np.full(len(present), np.inf)
    np.minimum.at(best, index, rank)
    return best


def hit_rate(rank: np.ndarray, case: np.ndarray, k: float) -> np.ndarray:
    """HR@k = 1 if any target has rank <= k, else 0.

    Case 0 has its target at rank 3, case 1 at 12: one hit, one miss.

    >>> hit_rate(np.array([3.0, 12.0]), np.array([0, 1]), k=10)
    array([1., 0.])
    """
    return (_best_rank(rank, case) <= k).astype(np.float64)


def reciprocal_rank(rank: np.ndarray, case: np.ndarray, k: float) -> np.ndarray:
    """RR@k = 1 / rank of the best target, 0 if that rank is beyond k. Its mean is MRR@k, and MRR with k = infinity.

    Targets at rank 4 and 2 in case 0: the better one counts, 1/2. Rank 12 in case 1 is beyond 10.

    >>> reciprocal_rank(np.array([4.0, 2.0, 12.0]), np.array([0, 0, 1]), k=10)
    array([0.5, 0. ])
    """
    best = _best_rank(rank, case)
    return np.where(best <= k, 1 / best, 0.0)


def ndcg(rank: np.ndarray, case: np.ndarray, k: float) -> np.ndarray:
    """NDCG@k = DCG / ideal DCG, with DCG = sum over targets of rank <= k of 1 / log2(rank + 1) (binary relevance).

    The ideal list has the targets on the places 1 .. min(|rel|, k). With one target: NDCG@k = 1 / log2(rank + 1).

    Case 0, one target at rank 3: 1 / log2(4) = 0.5. Case 1, targets at 1 and 3: (1 + 0.5) / (1 + 0.6309) = 0.9197.

    >>> ndcg(np.array([3.0, 1.0, 3.0]), np.array([0, 1, 1]), k=10).round(4)
    array([0.5   , 0.9197])
    """
    gained = _sum_by_case(np.where(rank <= k, 1 / np.log2(rank + 1), 0.0), case)
    relevant = _sum_by_case(np.ones(len(rank)), case).astype(np.int64)
    ideal = np.cumsum(1 / np.log2(np.arange(relevant.max(initial=1)) + 2))
    return np.minimum(gained / ideal[np.minimum(relevant, k).astype(np.int64) - 1], 1.0)


def recall(rank: np.ndarray, case: np.ndarray, k: float) -> np.ndarray:
    """Recall@k = number of targets with rank <= k (at most k), divided by |rel| (not by min(|rel|, k)).

    Targets at 1, 3 and 20: two of three are among the first 10.

    >>> recall(np.array([1.0, 3.0, 20.0]), np.array([0, 0, 0]), k=10).round(4)
    array([0.6667])
    """
    return _hits(rank, case, k) / _sum_by_case(np.ones(len(rank)), case)


def precision(rank: np.ndarray, case: np.ndarray, k: float) -> np.ndarray:
    """Precision@k = number of targets with rank <= k (at most k), divided by k.

    Targets at 1, 3 and 20: two of ten places are right.

    >>> precision(np.array([1.0, 3.0, 20.0]), np.array([0, 0, 0]), k=10)
    array([0.2])
    """
    return _hits(rank, case, k) / k


def _hits(rank: np.ndarray, case: np.ndarray, k: float) -> np.ndarray:
    return np.minimum(_sum_by_case((rank <= k).astype(np.float64), case), k)


#: Metrics by the name that stands before the @.
METRICS: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "hr": hit_rate,
    "ndcg": ndcg,
    "mrr": reciprocal_rank,
    "recall": recall,
    "precision": precision,
}


def per_case(metric: str, rank: np.ndarray, case: np.ndarray, n_ranked: int) -> np.ndarray:
    """[C] values of a metric named like ``ndcg@10`` or ``mrr``, for significance tests.

    n_ranked: how many items each target was ranked among. Raises KeyError for a name that is not a metric.

    >>> per_case("hr@500", np.array([100.0]), np.array([0]), n_ranked=100)
    array([1.])
    """
    name, _, cutoff = metric.partition("@")
    if name not in METRICS or (not cutoff and name != "mrr"):
        raise KeyError(
            f"{metric} is not a metric; names are mrr or one of {', '.join(METRICS)} with a cutoff, such as ndcg@10"
        )
    k = min(int(cutoff), n_ranked) if cutoff else np.inf
    return METRICS[name](rank, case, k)


def ranking_metrics(
    rank: np.ndarray, case: np.ndarray, n_equal: np.ndarray, n_ranked: int, cutoffs: Sequence[int]
) -> dict[str, float]:
    """Means over cases, by plain name: hr@k, ndcg@k, mrr@k for each cutoff, mrr, and where a case has several targets
    recall@k, precision@k.

    tied: share of targets whose score some other item has too. If ties matter, that is if NDCG@k with every tie won and
    with every tie lost differ by more than 1e-4, ndcg@k_optimistic and ndcg@k_pessimistic stand beside it.

    n_equal [T]: size of the tie that each target is in, itself included. Raises ValueError if there is no case.

    >>> ranking_metrics(np.array([3.0, 12.0]), np.array([0, 1]), np.array([1, 1]), n_ranked=100, cutoffs=[10])["hr@10"]
    0.5
    """
    if len(rank) == 0:
        raise ValueError("there is no target to compute metrics from")
    several = len(np.unique(case)) < len(case)
    names = ["hr", "ndcg", "mrr"] + (["recall", "precision"] if several else [])
    values = {f"{name}@{k}": _mean(f"{name}@{k}", rank, case, n_ranked) for k in cutoffs for name in names}
    values["mrr"] = _mean("mrr", rank, case, n_ranked)
    values["tied"] = float((n_equal > 1).mean())
    half = (n_equal - 1) / 2
    for k in cutoffs if half.any() else ():
        best = _mean(f"ndcg@{k}", rank - half, case, n_ranked)
        worst = _mean(f"ndcg@{k}", rank + half, case, n_ranked)
        if best - worst > TIE_TOLERANCE:
            values |= {f"ndcg@{k}_optimistic": best, f"ndcg@{k}_pessimistic": worst}
    return values


def _mean(metric: str, rank: np.ndarray, case: np.ndarray, n_ranked: int) -> float:
    return float(per_case(metric, rank, case, n_ranked).mean())
