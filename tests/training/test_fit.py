"""The learner around a model: rates, what is optimised, in which precision the catalogue product runs."""

from __future__ import annotations

import math

import pytest
import torch

from recbench.config.settings import HardwareConfig, TrainingConfig
from recbench.core.errors import UserError
from recbench.models.base import ModelContext
from recbench.models.sequential.sasrec import SASRec, SASRecConfig
from recbench.nn.losses.catalogue import CatalogueLoss
from recbench.training.fit import set_logits_precision
from recbench.training.learner import Learner


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SASRec(SASRecConfig(hidden_size=8), ModelContext(n_items=30, n_users=5, max_length=10))


def rates(model, config, steps, total):
    """Learning rate at each step, as the optimiser sees it."""
    made = Learner(model, config, total).configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_a_constant_rate_needs_no_schedule(model):
    optimizer = Learner(model, TrainingConfig(lr=0.3), 10).configure_optimizers()
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_warm_up_rises_in_equal_steps_to_the_full_rate(model):
    found = rates(model, TrainingConfig(lr=1.0, warmup_steps=4), 6, 100)
    assert found == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_cosine_falls_to_zero_at_the_last_step(model):
    found = rates(model, TrainingConfig(lr=2.0, schedule="cosine"), 11, 10)
    assert found == pytest.approx([1 + math.cos(math.pi * step / 10) for step in range(11)])
    assert found[0] == 2
    assert found[-1] == pytest.approx(0, abs=1e-12)


def test_cosine_beyond_its_end_stays_at_zero(model):
    assert rates(model, TrainingConfig(lr=2.0, schedule="cosine"), 15, 10)[-1] == pytest.approx(0, abs=1e-12)


def test_what_is_frozen_is_not_optimised(model):
    model.position_embedding.requires_grad_(False)
    optimizer = Learner(model, TrainingConfig(weight_decay=0.1), 10).configure_optimizers()
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert id(model.position_embedding.weight) not in optimised
    assert optimised == {id(p) for p in model.parameters() if p.requires_grad}


def test_means_are_over_the_steps_of_one_epoch(model):
    learner = Learner(model, TrainingConfig(), 10)
    for value in (1.0, 3.0):
        learner._count({"loss": torch.tensor(value)})
    assert learner.take_means() == {"loss": 2.0}
    learner._count({"loss": torch.tensor(7.0)})
    assert learner.take_means() == {"loss": 7.0}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_term_that_spoils_the_sum_is_the_one_that_is_named(model, value):
    learner = Learner(model, TrainingConfig(), 10)
    learner._count({"loss": torch.tensor(value), "recommendation": torch.tensor(1.0), "norm": torch.tensor(value)})
    with pytest.raises(UserError, match=rf"loss term 'norm' became {value}.*training\.lr.*gradient_clip"):
        learner.take_means()


@pytest.mark.parametrize(
    ("asked", "native", "expected"),
    [("float32", True, False), ("bfloat16", False, True), ("auto", True, True), ("auto", False, False)],
)
def test_the_catalogue_product_is_narrow_where_asked_for_or_native(model, monkeypatch, asked, native, expected):
    monkeypatch.setattr("recbench.training.fit.has_fast_bfloat16", lambda device: native)
    set_logits_precision(model, HardwareConfig(accelerator="cpu", logits=asked))
    assert [module.bfloat16_logits for module in model.modules() if isinstance(module, CatalogueLoss)] == [expected]


def test_a_step_schedule_falls_to_a_tenth_at_the_end_of_every_so_many_epochs(model):
    found = rates(model, TrainingConfig(lr=1.0, schedule="step", step_epochs=2, max_epochs=5), 20, 20)
    assert found == pytest.approx([1] * 8 + [0.1] * 8 + [0.01] * 4)


def test_l2_is_a_part_of_the_gradient(model):
    optimizer = Learner(model, TrainingConfig(lr=0.1, l2=0.5), 10).configure_optimizers()
    moved = model.position_embedding.weight
    before = moved.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    # Adam's first step is the rate times the sign of the gradient, which here is the penalty's alone; weight_decay would scale instead.
    torch.testing.assert_close(moved, before - 0.1 * before.sign(), atol=1e-4, rtol=0)
