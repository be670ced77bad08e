"""``data.rewards``: figures of the events that count, and targets weighted by what they are worth."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data.rewards import event_rewards
from recbench.evaluation.metrics import per_case
from recbench.experiment.context import RunContext
from recbench.experiment.key import run_key
from recbench.experiment.model_contract.world import fresh, world
from recbench.experiment.reward_figures import item_rewards
from recbench.experiment.run import run
from recbench.models.selection.event_selection import is_target


def test_figures_of_rewarded_targets_and_of_what_is_recommended(run_config, tmp_path):
    config = run_config(tmp_path, "model=markov", "data.rewards={buy: 2}")
    stage, made = RunContext.of(config), run(config)
    reward = event_rewards(stage.data, {"buy": 2.0})
    assert set(reward.tolist()) == {0.0, 2.0}
    ranks = pl.read_parquet(made.folder.ranks)["rank"].to_numpy()
    bought = reward[stage.split.test.target_positions] == 2
    expected = per_case("ndcg@10", ranks[bought], np.arange(bought.sum()), stage.data.n_items).mean()
    assert made.metrics["test/rewarded_ndcg@10"] == pytest.approx(expected)
    worth = item_rewards(stage.train, reward)
    _, item, _ = stage.train.flat()
    place = np.concatenate([np.arange(*pair) for pair in zip(stage.train.start, stage.train.end, strict=True)])
    assert worth[item[0]] == pytest.approx(reward[place][item == item[0]].mean())
    assert worth.min() <= made.metrics["test/reward_in_lists@10"] <= worth.max()


def test_a_run_that_names_rewards_is_another_one_and_others_have_no_such_figures(run_config, tmp_path):
    plain, named = run_config(tmp_path, "model=markov"), run_config(tmp_path, "model=markov", "data.rewards.buy=2")
    stage = RunContext.of(plain)
    assert run_key(plain, stage) != run_key(named, stage)
    assert not [name for name in run(plain).metrics if "reward" in name]


def test_a_selection_by_reward_weighs_targets_by_what_they_are_worth():
    data, split = world().data, world().split
    place = np.concatenate([np.arange(a, b) for a, b in zip(split.train_start, split.train_end, strict=True)])
    worth = {"view": 0.0, "cart": 1.0, "buy": 3.0}
    reward = np.array([0.0, *(worth[name] for name in data.manifest["behaviours"])])[data.behaviours[place]]
    for keys, expected in (
        ({}, 1 + reward),
        ({"base": 0.0}, reward),
        ({"base": 0.0, "equal": True}, (reward > 0) * 1.0),
        ({"base": 0.5, "equal": True}, 0.5 + (reward > 0)),
    ):
        model = fresh("select_reward", keys)
        np.testing.assert_allclose(model.weight.numpy(), expected)
        assert (model.keep.numpy() == (expected > 0)).all()
    user = np.repeat(np.arange(len(split.train_start)), np.asarray(split.train_end) - np.asarray(split.train_start))
    assert is_target(user).sum() < len(user)
    with pytest.raises(UserError, match=r"training\.selection_keys\.base must be a number of 0 or more"):
        fresh("select_reward", {"base": -1.0})


def test_a_model_trained_on_rewarded_targets_alone_has_as_many_of_them(run_config, tmp_path):
    words = ("model=sasrec", "tuned=off", "model.hidden_size=8", "model.n_layers=1", "training.max_epochs=1")
    made = run(run_config(tmp_path, *words, "training.selection=reward", "training.selection_keys.base=0"))
    stage = RunContext.of(made.config)
    reward = event_rewards(stage.data, {})
    targets = np.concatenate(
        [np.arange(a + 1, b) for a, b in zip(stage.train.start, stage.train.end, strict=True) if b > a]
    )
    assert made.dependencies["selection"].metrics["selection/targets_kept"] == (reward[targets] > 0).sum()
    assert "test/rewarded_ndcg@10" in made.metrics
