"""The oracle of ``model.heads``: the rank of each target among the items of its own class, as if somebody had told the class.

It is an upper bound on what knowing the class could give, and no way to recommend: its figures stand under names of their own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recbench.config.run import RunConfig
from recbench.data.split import Split
from recbench.data.store import PreparedData
from recbench.evaluation.outcome import merge
from recbench.experiment import evaluate
from recbench.models.base import Recommender
from recbench.models.sequence_model import SequenceModel
from recbench.nn.losses.class_heads import ItemHeads


def oracle_figures(model: Recommender, data: PreparedData, split: Split, config: RunConfig) -> dict[str, float]:
    """``test/oracle_class_ndcg@10`` and the like of a model with heads for classes of items; {} for any other.

    Cases with several targets are left out where these belong to several classes, as a list has one class here.
    """
    if (
        not isinstance(model, SequenceModel)
        or not isinstance(model.heads, ItemHeads)
        or split.test.candidates is not None
    ):
        return {}
    class_of = model.heads.class_of.cpu().numpy()
    of_target = class_of[split.test.targets]
    case = np.repeat(np.arange(len(split.test)), split.test.n_targets)
    lowest, highest = np.full(len(split.test), class_of.max() + 1), np.full(len(split.test), -1)
    np.minimum.at(lowest, case, of_target)
    np.maximum.at(highest, case, of_target)
    parts = []
    for number in np.unique(of_target):
        chosen = np.flatnonzero((lowest == number) & (highest == number))
        if not len(chosen):
            continue
        ranked = class_of == number
        ranked[0] = False
        if split.ranked is not None:
            ranked &= split.ranked
        cases = split.test.select(chosen)
        parts.append(evaluate.rank_cases(model, data, replace(split, ranked=ranked), cases, config))
    if not parts:
        return {}
    for number, part in enumerate(parts):  # cases are numbered within their class; any distinct numbers will do
        parts[number] = replace(part, case=part.case + number * len(split.test), top_k_case=part.top_k_case)
    found = merge(parts).metrics(config.evaluation.cutoffs)
    return {f"test/{split.metric_prefix}oracle_class_{name}": value for name, value in found.items()}
