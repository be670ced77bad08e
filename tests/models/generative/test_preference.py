"""Preference: a stage that goes on from a finished run, and begins exactly where that one ended."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recbench.core.errors import UserError
from recbench.experiment.model_contract.world import fresh, trained, world
from recbench.models.generative.likelihood import item_log_probs
from recbench.models.generative.preference import Preference, PreferenceConfig
from recbench.models.language.bigrec import BIGRec
from recbench.nn.losses import preference as losses
from tests.fixtures.model_sizes import SASREC, SIZES

KEYS = SIZES["preference"]


def build(**keys):
    return fresh("preference", {**KEYS, **keys})


def drawn(model):
    torch.manual_seed(3)
    return model.drawn(world().rows["windows"])


@pytest.mark.parametrize("name", ["tiger", "lcrec", "bigrec", "rpg", "sasrec"])
def test_the_log_probability_of_items_is_the_models_own(name):
    model, histories = fresh(name, SIZES[name]), world().histories
    items = torch.tensor([[5, 9, 5]]).expand(len(histories), -1)
    with torch.no_grad():
        found = item_log_probs(model, histories, items).sum(2)
        scores = model.score(histories)
    if name in ("rpg", "sasrec"):
        scores = torch.nn.functional.pad(scores[:, 1:].log_softmax(1), (1, 0))
    torch.testing.assert_close(found, scores.gather(1, items), atol=1e-4, rtol=1e-4)
    assert isinstance(model, BIGRec) or found.isfinite().all()


def test_it_goes_on_from_a_start_whose_items_are_made_of_codes():
    codes = {"model": "rq_kmeans", "levels": 2, "codebook_size": 8}
    model, histories = (
        build(start={"model": "sasrec", **SASREC, "items": "codes", "tokenizer": codes}),
        world().histories,
    )
    with torch.no_grad():
        assert torch.equal(model.score(histories), model.before.model.score(histories))
    assert model.policy.item_embedding.pieces.shape[1] == 2


def test_it_begins_as_its_start_and_the_copy_of_before_never_moves():
    model, histories = build(rejected="uniform"), world().histories
    start = model.before.model
    with torch.no_grad():
        assert torch.equal(model.score(histories), start.score(histories))
    for objective, expected in (("dpo", math.log(2)), ("softmax_dpo", None)):
        other = build(objective=objective, rejected="uniform").train()
        value = other.preference_loss(*drawn(other)).item()
        if expected is None:
            assert math.log(2) < value <= math.log(1 + 4) + 1e-6
        else:
            assert value == pytest.approx(expected, abs=1e-6)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    model.train()
    assert not model.policy.training
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, fused=True)
    first = None
    for _ in range(6):
        optimizer.zero_grad()
        loss = model.preference_loss(*drawn(model))
        first = loss.item() if first is None else first
        loss.backward()
        optimizer.step()
    assert loss.item() < first
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())
    assert all(not name.startswith("before") for name in model.stored_state())


def test_a_list_is_the_models_own_and_holds_no_item_twice():
    model = build(rollouts=7)
    items = model.lists(drawn(model)[0])
    assert all(len(set(row)) == 7 and min(row) > 0 for row in items.tolist())


def test_rewards_of_hand_written_lists():
    items, good = torch.tensor([[3, 7, 5], [1, 2, 4]]), torch.tensor([[7, 0], [9, 8]])
    assert losses.exact_rewards(items, good).tolist() == [[0, 1, 0], [0, 0, 0]]
    ranked = losses.rank_rewards(items, good)
    whole = 1 + 1 / 2  # of places 0 and 2: 1 / log2(2), 1 / log2(4)
    torch.testing.assert_close(ranked[0], torch.tensor([-1 / whole, 1.0, -0.5 / whole]))
    assert not ranked[1].any()
    there = torch.ones(2, 3, dtype=torch.bool)
    found = losses.advantages(ranked, there)
    torch.testing.assert_close(found[0].sum(), torch.tensor(0.0), atol=1e-5, rtol=0)
    assert not found[1].any()


def test_groups_of_equal_reward_have_no_gradient_and_beta_holds_back():
    own = torch.randn(2, 3, 2, requires_grad=True)
    there = torch.ones(2, 3, dtype=torch.bool)
    losses.grpo(own, own.detach() - 0.5, torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0]]), there, 0.5).backward()
    assert not own.grad[0].any()
    assert own.grad[1].any()
    # Where both models agree the penalty is 0 and flat, whatever beta.
    same = own.detach().clone().requires_grad_(True)
    assert losses.grpo(same, same.detach(), torch.zeros(2, 3), there, 1e6).item() == 0


def test_a_pair_the_other_way_round_has_the_opposite_margin():
    chosen, rejected, there = torch.tensor([0.7]), torch.tensor([[-0.4]]), torch.ones(1, 1, dtype=torch.bool)
    one = losses.dpo(chosen, rejected, there, 1.0).item()
    other = losses.dpo(rejected[:, 0], chosen[None], there, 1.0).item()
    assert other - one == pytest.approx(1.1, abs=1e-6)  # log sigmoid(m) - log sigmoid(-m) = m
    assert losses.softmax_dpo(chosen, rejected, there, 1.0).item() == pytest.approx(one, abs=1e-6)


def test_permuted_pairs_are_the_same_items():
    model = build()
    items = torch.arange(1, 13).view(3, 4).repeat(20, 1)
    there = torch.ones(60, 3, dtype=torch.bool)
    turned = model._permuted(items, there)
    assert torch.equal(turned.sort(1).values, items)
    swapped = (turned[:, 0] != items[:, 0]).float().mean()
    assert 0.2 < swapped < 0.8


def test_more_is_the_loss_of_the_start():
    model = build(objective="more").train()
    torch.manual_seed(5)
    loss = model.training_loss(world().rows["windows"])
    torch.manual_seed(5)
    assert torch.equal(loss, model.policy.train().training_loss(world().rows["windows"]))


def test_a_stage_that_harms_ends_where_it_began():
    start = {"model": "sasrec", **SASREC, "training": {"max_epochs": 3, "validate_every": 3}}
    keys = {"start": start, "rollouts": 4, "beta": 100.0, "permute": True}
    found = trained("preference", {**keys, "rejected": "uniform"}, 4)
    assert found["cost/best_epoch"] == -1
    (key,) = found["dependencies"].values()
    kept = json.loads((_folder_of_runs() / key / "metrics.json").read_text())
    assert {name: found[name] for name in kept if name.startswith(("test/", "validation/"))} == {
        name: value for name, value in kept.items() if name.startswith(("test/", "validation/"))
    }


def _folder_of_runs():
    from recbench.experiment.model_contract import world as module

    return Path(module._folder().name) / "runs"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"start": {"model": "markov"}}, r"is not trained by gradient"),
        ({"start": {"model": "rq_kmeans"}}, r"is not trained by gradient"),
        ({"rollouts": 0}, r"model.rollouts must be at least 1"),
        ({"objective": "ppo"}, r"unknown model.objective 'ppo'"),
        ({"objective": "grpo", "rollouts": 1}, r"set model.rollouts to at least 2"),
    ],
)
def test_bad_keys_are_refused_by_name(keys, message):
    with pytest.raises(UserError, match=message):
        Preference.dependencies(PreferenceConfig(**{"rollouts": 4, **keys}))


def test_a_list_longer_than_the_beams_of_the_start_is_refused():
    with pytest.raises(UserError, match=r"model.rollouts=65 is above the 64 beams"):
        build(rollouts=65)


def test_prefix_rewards_need_codes():
    model = fresh(
        "preference", {"start": {"model": "sasrec", **SASREC}, "rollouts": 3, "objective": "grpo", "reward": "prefix"}
    )
    with pytest.raises(UserError, match=r"model.reward=prefix compares codes"):
        model.training_loss(replace(world().rows["windows"]))
