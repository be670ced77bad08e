"""The figures of held-out ratings, against plain counting."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recbench.config.settings import HardwareConfig
from recbench.experiment.rating_figures import rating_figures

CONFIG = SimpleNamespace(hardware=HardwareConfig(accelerator="cpu"))


def world(given, n_items=3):
    """Two users with three events each: the last one is the test target; ``given`` their ratings."""
    items, start = np.array([1, 2, 3, 2, 1, 3]), np.array([0, 3])
    data = SimpleNamespace(items=items, ratings=np.array(given, dtype=np.float32), n_users=2, n_items=n_items)
    train = SimpleNamespace(data=data, start=start, end=start + 2, n_users=2, n_items=n_items)
    test = SimpleNamespace(
        user=np.array([0, 1]), n_targets=np.array([1, 1]), targets=items[[2, 5]], target_positions=np.array([2, 5])
    )
    return data, SimpleNamespace(test=test, training=lambda _: train)


class Says(torch.nn.Module):
    def ratings(self, user, items):
        return {"": 3.0 + user.float(), "word_": items.float()}


def test_errors_and_floors_are_those_of_plain_counting():
    found = rating_figures(Says(), *world([5, 3, 4, 2, 4, 1]), CONFIG)
    assert found["test/rated_targets"] == 2
    # 3 and 4 were said; 4 and 1 given.
    assert found["test/rating_rmse"] == pytest.approx(np.sqrt((1 + 9) / 2))
    assert found["test/rating_mae"] == pytest.approx(2.0)
    assert found["test/rating_word_mae"] == pytest.approx((1 + 2) / 2)
    # The mean of training is 3.5; the users' are 4 and 3, and item 3 has no training event.
    assert found["test/rating_global_mean_mae"] == pytest.approx((0.5 + 2.5) / 2)
    assert found["test/rating_user_item_mean_rmse"] == pytest.approx(np.sqrt((0 + 4) / 2))


def test_what_has_no_rating_is_left_out():
    nan = np.nan
    found = rating_figures(Says(), *world([5, nan, nan, 2, 4, 1]), CONFIG)
    assert found["test/rated_targets"] == 1
    assert found["test/rating_mae"] == pytest.approx(3.0)
    assert found["test/rating_global_mean_mae"] == pytest.approx(11 / 3 - 1)
    assert rating_figures(Says(), *world([5, 4, nan, 2, 4, nan]), CONFIG) == {}
