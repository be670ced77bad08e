"""The optimiser and the schedule that a config names."""

from __future__ import annotations

import math

import pytest
import torch

from recbench.config.run import RunConfig
from recbench.config.settings import TrainingConfig
from recbench.core.errors import UserError
from recbench.core.key_fields import key_values
from recbench.training.learner import Learner
from recbench.training.row_adam import RowAdam


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(6, 3)


def optimizer_of(**keys):
    made = Learner(Model(), TrainingConfig(lr=0.05, **keys), 10).configure_optimizers()
    return made if isinstance(made, torch.optim.Optimizer) else made["optimizer"]


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({}, torch.optim.AdamW),
        ({"l2": 0.1}, torch.optim.Adam),
        ({"embedding_gradients": "sparse"}, RowAdam),
        ({"optimizer": "adagrad"}, torch.optim.Adagrad),
        ({"optimizer": "adagrad", "embedding_gradients": "sparse"}, torch.optim.Adagrad),
    ],
)
def test_the_optimizer_is_the_one_asked_for(keys, kind):
    made = optimizer_of(**keys)
    assert type(made).__base__ is kind
    assert made.param_groups[0]["weight_decay"] == keys.get("l2", 0.0)


@pytest.mark.parametrize("sparse", [False, True])
def test_adagrad_moves_rows_by_their_summed_squares_and_leaves_others(sparse):
    learner = Learner(
        Model(), TrainingConfig(lr=0.05, optimizer="adagrad", embedding_gradients="sparse" if sparse else "dense"), 10
    )
    table, optimizer = learner.student.table, learner.configure_optimizers()
    table.sparse = sparse
    before, squares = table.weight.detach().clone(), torch.zeros(6, 3)
    expected = before.clone()
    for step in range(3):
        optimizer.zero_grad()
        (table(torch.tensor([1, 4])) * (step + 1.0)).sum().backward()
        optimizer.step()
        squares[[1, 4]] += (step + 1.0) ** 2
        expected[[1, 4]] -= 0.05 * (step + 1.0) / squares[[1, 4]].sqrt()
    torch.testing.assert_close(table.weight.detach(), expected)


def test_the_inverse_square_root_falls_after_its_warm_up():
    learner = Learner(Model(), TrainingConfig(schedule="inverse_sqrt", warmup_steps=100), 1000)
    assert [learner._lr_factor(step) for step in (0, 50, 99)] == [1.0, 1.0, 1.0]
    assert math.isclose(learner._lr_factor(399), 0.5)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["training.optimizer=sgd"], "unknown training.optimizer 'sgd'"),
        (["training.optimizer=adagrad", "training.weight_decay=0.1"], "set training.l2 instead"),
        (["training.schedule=inverse_sqrt"], "set it to at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(compose, overrides, words):
    with pytest.raises(UserError, match=words):
        RunConfig.from_hydra(compose("model=sasrec", "data=synthetic", *overrides)).check()


def test_the_default_enters_no_key():
    assert "optimizer" not in key_values(TrainingConfig())
    assert key_values(TrainingConfig(optimizer="adagrad"))["optimizer"] == "adagrad"
