"""How far an attack came: where its targets stand in the lists of the real users who lack them."""

from __future__ import annotations

import numpy as np

from recbench.config.run import RunConfig
from recbench.data.attack import attack_targets
from recbench.data.cases import Cases, flat_ranges
from recbench.data.split import Split
from recbench.data.store import PreparedData
from recbench.experiment import evaluate
from recbench.models.base import Recommender

#: Beside the run's own cutoffs: five targets are coarse at ten places.
LONG_LIST = 50


def attack_figures(model: Recommender, data: PreparedData, split: Split, config: RunConfig) -> dict[str, float]:
    """``attack/t_hr@10`` and the like: the share of pairs (real user, target that is not in the history) whose target is in the list; and
    ``attack/median_rank`` of the targets. {} where none are asked for, or candidates are ranked."""
    if not config.attack.n_targets or split.test.candidates is not None:
        return {}
    cases = promoted_cases(data, split.test, attack_targets(data, split, config.attack))
    ranked = evaluate.rank_cases(model, data, split, cases, config)
    cutoffs = sorted({*config.evaluation.cutoffs, LONG_LIST})
    return {
        **{f"attack/t_hr@{k}": float((ranked.rank <= k).mean()) for k in cutoffs},
        "attack/median_rank": float(np.median(ranked.rank)),
        "attack/fake_users": float(data.n_users - data.n_real_users),
    }


def promoted_cases(data: PreparedData, test: Cases, targets: np.ndarray) -> Cases:
    """The first test case of each user, asked for the targets that are not in its history."""
    _, first = np.unique(test.user, return_index=True)
    part = test.select(first)
    row, place = flat_ranges(part.start, part.end)
    has = np.zeros((len(part), len(targets)), dtype=bool)
    where = np.searchsorted(targets, data.items[place]).clip(max=len(targets) - 1)
    met = targets[where] == data.items[place]
    has[row[met], where[met]] = True
    case, which = np.nonzero(~has)
    return Cases(
        user=part.user,
        start=part.start,
        end=part.end,
        target_offsets=np.concatenate([[0], np.cumsum((~has).sum(1))]).astype(np.int64),
        targets=targets[which].astype(np.int32),
        target_positions=part.target_positions[part.target_offsets[:-1]][case],
    )
