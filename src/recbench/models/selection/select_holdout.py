"""All training targets but each user's last: what a surrogate is trained on, so that there are training events that it did not learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig
from recbench.models.registry import register
from recbench.models.selection.event_selection import EventSelection, is_target


@dataclass
class SelectHoldoutConfig(ModelConfig):
    """Nothing to choose."""

    name: str = "select_holdout"


@register("select_holdout", SelectHoldoutConfig)
class SelectHoldout(EventSelection):
    """See the head of this file."""

    uses_seed = False

    def choose(self, train: TrainingData) -> tuple[np.ndarray, np.ndarray]:
        user, _, _ = train.flat()
        return is_target(user) & ~last_targets(user), np.ones(len(user))


def last_targets(user: np.ndarray) -> np.ndarray:
    """[M] bool: the last training event of each user who has at least three, so that another target is left."""
    last = np.concatenate([user[1:] != user[:-1], [True]])
    return last & (np.bincount(user)[user] >= 3)
