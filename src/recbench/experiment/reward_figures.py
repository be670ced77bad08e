"""How well a model does by the events that count, where somebody says what behaviours are worth (``recbench.data.rewards``).

    test/rewarded_ndcg@10 ...    of the targets that have a reward alone
    test/reward_in_lists@10      mean reward of the training events of a recommended item, over all places of the lists

They are figures of runs that ask for them: with ``data.rewards``, a model that reads rewards, or a selection by reward.
"""

from __future__ import annotations

import numpy as np

from recbench.config.run import RunConfig
from recbench.data.cases import flat_ranges
from recbench.data.rewards import event_rewards
from recbench.data.split import Split
from recbench.data.store import PreparedData
from recbench.data.training import TrainingData
from recbench.evaluation.metrics import per_case
from recbench.evaluation.outcome import Evaluation
from recbench.models.base import Recommender


def asks_for_rewards(model: Recommender, config: RunConfig) -> bool:
    """Whether the figures of a run of this model are to say something of rewards."""
    return bool(config.data.rewards) or model.reads_rewards or config.training.selection == "reward"


def reward_figures(
    ranked: Evaluation, data: PreparedData, split: Split, config: RunConfig, name: str = ""
) -> dict[str, float]:
    """By name, as in ``test/rewarded_ndcg@10``. name: of the order that was ranked, where it is not the model's own. Raises UserError where nobody
    says what the behaviours of these data are worth."""
    reward, cutoffs = event_rewards(data, config.data.rewards), config.evaluation.cutoffs
    found: dict[str, float] = {}
    prefix = f"test/{split.metric_prefix}"
    chosen = reward[split.test.target_positions] > 0
    if chosen.any():
        rank = ranked.rank[chosen]
        for metric in (f"{kind}@{k}" for k in cutoffs for kind in ("hr", "ndcg")):
            values = per_case(metric, rank, np.arange(len(rank)), ranked.n_ranked)
            found[f"{prefix}rewarded_{name}{metric}"] = float(values.mean())
    if ranked.top_k.size:
        worth = item_rewards(TrainingData.of_real_users(data, split), reward)
        for k in (k for k in cutoffs if k <= ranked.top_k.shape[1]):
            listed = ranked.top_k[:, :k]
            found[f"{prefix}{name}reward_in_lists@{k}"] = float(worth[listed[listed > 0]].mean())
    return found


def item_rewards(train: TrainingData, reward: np.ndarray) -> np.ndarray:
    """[n_items + 1]: the mean reward of an item's training events, that of all events for an item without any. reward [N]."""
    _, place = flat_ranges(train.start, train.end)
    items, values = np.asarray(train.data.items[place]), reward[place]
    count = np.bincount(items, minlength=train.n_items + 1)
    total = np.bincount(items, weights=values, minlength=train.n_items + 1)
    return np.where(count > 0, total / np.maximum(count, 1), values.mean() if len(values) else 0.0)
