"""MCLRec learns model and augmenters by turns: what moves when, by which loss, and what a checkpoint keeps of it."""

from __future__ import annotations

import io

import pytest
import torch
import torch.nn.functional as F

from recbench.config.settings import TrainingConfig
from recbench.objectives.contrastive.base import build_auxiliaries, representations
from recbench.objectives.contrastive.info_nce import info_nce
from recbench.objectives.contrastive.mclrec import Augmenter, regulariser
from recbench.training.learner import Learner


@pytest.fixture
def mclrec(build, dataset):
    """mclrec(stages="released", ...) -> (model, auxiliary); keys are those of model.mclrec."""

    def make(dropout=0.0, **keys):
        model = build(auxiliary=["mclrec"], dropout=dropout)
        for key, value in keys.items():
            setattr(model.config.mclrec, key, value)
        torch.manual_seed(3)
        return model, build_auxiliaries(model, dataset)[0]

    return make


def copied(module):
    return {name: value.clone() for name, value in module.named_parameters()}


def unchanged(module, before):
    return {name for name, value in module.named_parameters() if torch.equal(value, before[name])}


def test_the_first_stage_moves_the_model_and_not_one_bit_of_the_augmenters(mclrec, batch):
    model, auxiliary = mclrec()
    learner = Learner(model, TrainingConfig(lr=0.01, weight_decay=0.1), 10, auxiliaries=[auxiliary])
    optimizer = learner.configure_optimizers()
    model_before, augmenters_before = copied(model), copied(auxiliary)
    learner.training_step(batch, 0).backward()
    optimizer.step()
    assert unchanged(model, model_before) == set()
    assert unchanged(auxiliary, augmenters_before) == set(augmenters_before)
    assert all(p.grad is None for p in auxiliary.parameters())


def test_the_second_stage_moves_the_augmenters_and_not_one_bit_of_the_model(mclrec, batch):
    model, auxiliary = mclrec(dropout=0.3)
    model.train()
    auxiliary.draw(batch)
    model_before, augmenters_before = copied(model), copied(auxiliary)
    auxiliary.after_step(model)
    assert unchanged(model, model_before) == set(model_before)
    assert all(p.grad is None for p in model.parameters())
    assert unchanged(auxiliary, augmenters_before) == set()
    assert not any(p.requires_grad for p in auxiliary.parameters())


def test_the_second_stage_follows_the_formula(mclrec, batch):
    """One step of Adam on L_cl2 + 0.1 R, written out."""
    model, auxiliary = mclrec(regulariser=0.1, lr=0.01)
    auxiliary.draw(batch)
    h1, h2 = (representations(model, view).detach() for view in auxiliary.views[0])
    other = [Augmenter(16, [32, 16]) for _ in range(2)]
    for mine, theirs in zip(other, auxiliary.augmenters, strict=True):
        mine.load_state_dict(theirs.state_dict())
    optimizer = torch.optim.Adam([p for part in other for p in part.parameters()], lr=0.01)
    z1, z2 = other[0](h1), other[1](h2)
    pairs = [(z1, z2), (h1, z2), (h2, z1)]
    sum(info_nce(a, b) + 0.1 * regulariser(a, b, 1.0) for a, b in pairs).backward()
    optimizer.step()
    auxiliary.after_step(model)
    for mine, theirs in zip(other, auxiliary.augmenters, strict=True):
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b)


def test_the_terms_follow_the_formula(mclrec, batch):
    model, auxiliary = mclrec(weight=0.4, regulariser=0.25, random_weight=0.7, temperature=0.8)
    auxiliary.draw(batch)
    h1, h2 = (representations(model, view) for view in auxiliary.views[0])
    z1, z2 = auxiliary.augmenters[0](h1), auxiliary.augmenters[1](h2)
    pairs = [(z1, z2), (h1, z2), (h2, z1)]
    expected = {
        "mclrec": 0.4 * sum(info_nce(a, b, 0.8) for a, b in pairs),
        "mclrec_regulariser": 0.4 * 0.25 * sum(regulariser(a, b, 0.8) for a, b in pairs),
        "mclrec_random": 0.7 * info_nce(h1, h2, 0.8),
    }
    terms = auxiliary.terms(model)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


def test_terms_of_weight_0_are_left_out(mclrec, batch):
    model, auxiliary = mclrec(regulariser=0.0, random_weight=0.0)
    auxiliary.draw(batch)
    assert set(auxiliary.terms(model)) == {"mclrec"}


def by_loop(first, second):
    views, rows = torch.cat([first, second]), len(first)
    scores = views @ views.T
    down, up = [], []
    for i in range(2 * rows):
        partner = (i + rows) % (2 * rows)
        positive = scores[i, partner]
        negatives = [scores[i, j] for j in range(2 * rows) if j not in (i, partner)]
        low, high = min(positive, max(negatives)), max(positive, max(negatives))
        down.append(max(positive - low, torch.tensor(0.0)))
        up += [max(high - negative, torch.tensor(0.0)) for negative in negatives]
    return sum(down) / len(down) + sum(up) / len(up)


def test_the_regulariser_is_the_loop():
    torch.manual_seed(0)
    for _ in range(5):
        first, second = torch.randn(2, 4, 3)
        torch.testing.assert_close(regulariser(first, second, 1.0), by_loop(first, second))


def test_the_regulariser_is_0_where_all_views_are_one():
    same = F.normalize(torch.ones(4, 3), dim=-1)
    assert regulariser(same, same, 1.0).item() == pytest.approx(0.0, abs=1e-6)


def test_an_augmenter_gives_views_of_unit_length():
    made = Augmenter(6, [5, 4])(torch.randn(7, 6))
    torch.testing.assert_close(made.norm(dim=1), torch.ones(7))
    assert [tuple(layer.weight.shape) for layer in Augmenter(64, [32, 16]).layers] == [(32, 64), (16, 32), (64, 16)]


def test_views_are_the_same_in_every_stage(mclrec, batch):
    model, auxiliary = mclrec(stages="released")
    auxiliary.draw(batch)
    before = [view.items.clone() for view in auxiliary.views[0]]
    auxiliary.terms(model)
    assert auxiliary.after_step(model) is True
    auxiliary.terms(model)
    assert all(torch.equal(view.items, items) for view, items in zip(auxiliary.views[0], before, strict=True))
    assert mclrec(stages="paper")[1].config.stages == "paper"


@pytest.mark.parametrize("steps_before", [0, 3])
def test_a_checkpoint_goes_on_where_it_was_left(mclrec, batch, steps_before):
    model, auxiliary = mclrec()
    auxiliary.draw(batch)
    for _ in range(steps_before):
        auxiliary.after_step(model)
    file = io.BytesIO()
    torch.save(auxiliary.state_dict(), file)
    file.seek(0)
    _, resumed = mclrec()
    resumed.load_state_dict(torch.load(file, weights_only=True))
    # Stored once more before it ever moved, as by a training that is killed in its first epoch.
    again = mclrec()[1]
    again.load_state_dict(resumed.state_dict())
    for part in (resumed, again):
        part.views = auxiliary.views
    for _ in range(2):
        for part in (auxiliary, resumed, again):
            assert part.after_step(model) is False
    assert unchanged(resumed, copied(auxiliary)) == set(copied(auxiliary))
    assert unchanged(again, copied(auxiliary)) == set(copied(auxiliary))
