"""How well a model tells the ratings that were held out, beside what counting gives. Figures of models that can be asked for ratings.

    test/rating_rmse, test/rating_mae                        of the model; rating_word_rmse: another answer of it, named so by the model
    test/rating_global_mean_rmse, ..._mae                    the mean rating of training, for everybody
    test/rating_user_item_mean_rmse, ..._mae                 mean of the user + mean of the item - that of all, within the ratings there are
    test/rated_targets                                       how many test targets have a rating

A user or an item without a rated training event has the mean of all.
"""

from __future__ import annotations

import numpy as np
import torch

from recbench.config.run import RunConfig
from recbench.data.cases import flat_ranges
from recbench.data.split import Split
from recbench.data.store import PreparedData
from recbench.data.training import TrainingData
from recbench.experiment.device import device_of
from recbench.models.base import Recommender

#: Pairs of a user and an item that are asked at once.
AT_ONCE = 1024


def rating_figures(model: Recommender, data: PreparedData, split: Split, config: RunConfig) -> dict[str, float]:
    """By name, as in ``test/rating_rmse``; none where no test target has a rating."""
    assert data.ratings is not None
    test = split.test
    given = np.asarray(data.ratings[test.target_positions], dtype=np.float64)
    rated = ~np.isnan(given)
    if not rated.any():
        return {}
    given, items = given[rated], test.targets[rated].astype(np.int64)
    users = np.repeat(test.user, test.n_targets)[rated]
    answers = {**asked(model, users, items, device_of(config.hardware)), **counted(split.training(data), users, items)}
    found: dict[str, float] = {"test/rated_targets": len(given)}
    for name, answer in answers.items():
        wrong = answer - given
        found[f"test/rating_{name}rmse"] = float(np.sqrt((wrong**2).mean()))
        found[f"test/rating_{name}mae"] = float(np.abs(wrong).mean())
    return found


@torch.no_grad()
def asked(model: Recommender, users: np.ndarray, items: np.ndarray, device: torch.device) -> dict[str, np.ndarray]:
    """Kind of answer -> [N]. users, items [N]."""
    model = model.to(device).eval()
    parts = [
        model.ratings(user.to(device), item.to(device))
        for user, item in zip(
            torch.from_numpy(users).split(AT_ONCE), torch.from_numpy(items).split(AT_ONCE), strict=True
        )
    ]
    return {kind: torch.cat([part[kind] for part in parts]).double().cpu().numpy() for kind in parts[0]}


def counted(train: TrainingData, users: np.ndarray, items: np.ndarray) -> dict[str, np.ndarray]:
    """The floors [N] of users and items [N]: the mean of all, and that moved by user and item."""
    assert train.data.ratings is not None
    user, place = flat_ranges(train.start, train.end)
    given = np.asarray(train.data.ratings[place], dtype=np.float64)
    rated = ~np.isnan(given)
    user, item, given = user[rated], np.asarray(train.data.items[place])[rated], given[rated]
    mean = float(given.mean())
    moved = _moved(user, given, train.n_users, mean)[users] + _moved(item, given, train.n_items + 1, mean)[items]
    return {
        "global_mean_": np.full(len(users), mean),
        "user_item_mean_": np.clip(mean + moved, given.min(), given.max()),
    }


def _moved(group: np.ndarray, given: np.ndarray, n: int, mean: float) -> np.ndarray:
    """[n] how far the mean of each group lies from that of all; 0 for a group without a rating."""
    count = np.bincount(group, minlength=n)
    total = np.bincount(group, weights=given - mean, minlength=n)
    return np.asarray(total / np.maximum(count, 1))
