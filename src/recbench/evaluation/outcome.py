"""What an evaluation found, one row a target, and its metrics. Shapes: C cases, T targets, K and k places of a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from recbench.evaluation.added_metrics import RankedLists
from recbench.evaluation.beyond_accuracy import beyond_accuracy
from recbench.evaluation.metrics import ranking_metrics


@dataclass(frozen=True)
class Evaluation:
    """What was found, one row a target, ordered by case.

    case, user [T] int64 · target [T] int32 · rank [T] float64, from 1 · n_equal [T] int64: items with the target's
    score, itself included · truncated [T] bool: the model gave a list and the target was not in it, so the rank is
    infinite: a miss at every cutoff, and nothing to the reciprocal rank · invalid [T, K] bool: places of the list as it
    was given that hold no item; K is 0 for scores · history_length [T] int64, complete · top_k_case [C], top_k [C, k]
    int32: the best items of each case (empty unless asked for; 0 = none). n_ranked: items that each target was ranked
    among. cases_without_targets: skipped, not counted as zero.
    """

    case: np.ndarray
    user: np.ndarray
    target: np.ndarray
    rank: np.ndarray
    n_equal: np.ndarray
    truncated: np.ndarray
    invalid: np.ndarray
    history_length: np.ndarray
    top_k_case: np.ndarray
    top_k: np.ndarray
    n_ranked: int
    cases_without_targets: int

    def metrics(self, cutoffs: Sequence[int]) -> dict[str, float]:
        """Accuracy by plain name (see ``recbench.evaluation.metrics``). ``truncated`` is added where lists were cut, and for lists invalid@k:
        the share of the first k places that the model filled with something that is no item."""
        values = ranking_metrics(self.rank, self.case, self.n_equal, self.n_ranked, cutoffs)
        if self.truncated.any():
            values["truncated"] = float(self.truncated.mean())
        if self.invalid.shape[1]:
            values |= {f"invalid@{k}": float(self.invalid[:, :k].mean()) for k in cutoffs}
        return values

    def beyond_accuracy(self, training_counts: np.ndarray, cutoffs: Sequence[int]) -> dict[str, float]:
        """Coverage, Gini, popularity and novelty of the lists. training_counts [n_items + 1]."""
        return beyond_accuracy(self.top_k, training_counts, cutoffs)

    def ranked_lists(self, training_counts: np.ndarray) -> RankedLists:
        """What metrics of other packages read. training_counts [n_items + 1]; the lists must have been asked for."""
        _, row = np.unique(self.case, return_inverse=True)
        return RankedLists(self.rank, row, self.target, self.history_length, self.top_k, training_counts, self.n_ranked)

    def table(self) -> dict[str, np.ndarray]:
        """Columns of the per-target table, [T] each."""
        names = ("case", "user", "target", "rank", "n_equal", "truncated", "history_length")
        return {name: getattr(self, name) for name in names}


def merge(parts: Sequence[Evaluation]) -> Evaluation:
    """What all processes found together, ordered by case: equal to what a single process finds."""
    joined = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Evaluation)
        if field.name not in ("n_ranked", "cases_without_targets")
    }
    by_case = np.argsort(joined["case"], kind="stable")
    by_list = np.argsort(joined["top_k_case"], kind="stable")
    ordered = {name: array[by_list if name.startswith("top_k") else by_case] for name, array in joined.items()}
    return Evaluation(**ordered, n_ranked=parts[0].n_ranked, cases_without_targets=parts[0].cases_without_targets)
