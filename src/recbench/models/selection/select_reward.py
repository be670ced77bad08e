"""Targets weighted by their reward: what one would try before a model of returns (``dt4rec``), and so its control.

weight = base + r                       r: reward of the target's behaviour (``data.rewards``)
base = 0                                the rewarded targets alone
base = 0, equal = true                  these, all with one weight
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbench.core.errors import UserError
from recbench.data.cases import flat_ranges
from recbench.data.rewards import event_rewards
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.registry import register
from recbench.models.selection.event_selection import EventSelection


@dataclass
class SelectRewardConfig(ModelConfig):
    """What a target without a reward weighs, and whether the others weigh alike."""

    name: str = "select_reward"
    base: float = 1.0
    equal: bool = False


@register("select_reward", SelectRewardConfig)
class SelectReward(EventSelection):
    """See the head of this file."""

    requires = frozenset({"behaviours"})

    def __init__(self, config: SelectRewardConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        self.rewards = dict(context.rewards)

    def choose(self, train: TrainingData) -> tuple[np.ndarray, np.ndarray]:
        base = self.config.base
        if not 0 <= base < np.inf:
            raise UserError(f"training.selection_keys.base must be a number of 0 or more, not {base:g}")
        _, place = flat_ranges(train.start, train.end)
        reward = event_rewards(train.data, self.rewards)[place]
        if not reward.any():
            raise UserError("no training event has a reward, so none can be preferred; set data.rewards")
        weight = base + (reward > 0 if self.config.equal else reward)
        return weight > 0, weight
