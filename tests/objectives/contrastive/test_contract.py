"""What every auxiliary owes, on every model that offers them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recbench.config.settings import TrainingConfig
from recbench.core.errors import UserError
from recbench.models.base import Recommender
from recbench.objectives.contrastive.base import build_auxiliaries, representations
from recbench.training.learner import Learner

TERMS = {"mclrec": {"mclrec", "mclrec_regulariser"}}


@pytest.fixture
def made(build, dataset, model_name):
    """made("duorec", dropout=0.2) -> (model, its one auxiliary)."""

    def make(name, **keys):
        model = build(model_name, auxiliary=[name], **keys)
        torch.manual_seed(3)
        (auxiliary,) = build_auxiliaries(model, dataset)
        return model, auxiliary

    return make


def test_a_model_offers_them(model_name):
    assert model_name


def test_every_term_is_there_finite_and_not_zero(made, batch, name):
    model, auxiliary = made(name)
    auxiliary.draw(batch)
    terms = auxiliary.terms(model)
    assert set(terms) == TERMS.get(name, {name})
    assert all(term.shape == () and term.isfinite() and term > 0 for term in terms.values())


def test_gradients_reach_the_model_by_every_term(made, batch, name):
    model, auxiliary = made(name)
    auxiliary.draw(batch)
    table = model.tower.words if hasattr(model, "tower") else model.item_embedding
    for term in auxiliary.terms(model):
        (gradient,) = torch.autograd.grad(auxiliary.terms(model)[term], table.weight)
        assert gradient.any(), term
        assert gradient.isfinite().all()


def test_a_weight_is_a_factor(made, batch, name):
    found = []
    for weight in (0.1, 0.3):
        model, auxiliary = made(name)
        auxiliary.config = replace(auxiliary.config, weight=weight)
        torch.manual_seed(5)
        auxiliary.draw(batch)
        found.append(auxiliary.terms(model)[name].item())
    assert found[1] == pytest.approx(3 * found[0], rel=1e-5)


def test_a_batch_of_one_row_is_enough(made, dataset, batch, name):
    model, auxiliary = made(name)
    auxiliary.draw(dataset[batch.windows[:1].numpy()])
    terms = auxiliary.terms(model)
    assert all(term.isfinite() for term in terms.values())
    sum(terms.values()).backward()
    auxiliary.after_step(model)


def test_training_on_it_alone_brings_it_down(made, batch, name):
    model, auxiliary = made(name)
    auxiliary.draw(batch)
    learned = [p for p in (*model.parameters(), *auxiliary.parameters()) if p.requires_grad]
    optimizer, values = torch.optim.Adam(learned, lr=0.01, fused=True), []
    # Products of unit vectors are bounded, and so is how low MCLRec's term can go.
    share = 0.95 if name == "mclrec" else 0.8
    for _ in range(60):
        optimizer.zero_grad()
        loss = sum(auxiliary.terms(model).values())
        loss.backward()
        optimizer.step()
        values.append(loss.item())
        if values[-1] < share * values[0]:
            return
    raise AssertionError(f"after 60 steps {values[-1]}, from {values[0]}")


def test_nothing_of_it_is_stored_with_the_model(made, name):
    model, auxiliary = made(name)
    learner = Learner(model, TrainingConfig(), 10, auxiliaries=[auxiliary])
    beside = {key for key in learner.state_dict() if not key.startswith("student.")}
    assert all(key.startswith("auxiliaries.0.") for key in beside)
    assert model.state_dict().keys() == model.stored_state().keys()
    assert {f"student.{key}" for key in model.state_dict()} | beside == set(learner.state_dict())


def test_the_loss_is_the_sum_of_the_terms(made, batch, name):
    model, auxiliary = made(name)
    learner = Learner(model, TrainingConfig(), 10, auxiliaries=[auxiliary])
    torch.manual_seed(7)
    loss = learner.training_step(batch, 0)
    means = learner.take_means()
    assert set(means) == {"loss", "recommendation", *TERMS.get(name, {name})}
    assert loss.item() == pytest.approx(sum(value for term, value in means.items() if term != "loss"), rel=1e-5)
    torch.manual_seed(7)
    auxiliary.draw(batch)  # the same random numbers, of which a sampled loss draws the next
    assert means["recommendation"] == pytest.approx(model.training_loss(batch).item(), rel=1e-5)


def test_a_history_is_represented_by_the_state_at_its_end(build, batch, model_name):
    model = build(model_name).eval()
    states = model.hidden_states(batch)[-1]
    expected = torch.stack([states[row, n - 1] for row, n in enumerate(batch.lengths)])
    torch.testing.assert_close(representations(model, batch), expected)


def test_a_model_without_such_a_state_is_refused_by_name(build, dataset):
    class Bare(Recommender):
        """Ranks, but has no states."""

        def __init__(self, config):
            torch.nn.Module.__init__(self)
            self.config = config

    with pytest.raises(
        UserError, match=r"'sasrec' has no state of a history that model\.auxiliary=duorec could compare"
    ):
        build_auxiliaries(Bare(build(auxiliary=["duorec"]).config), dataset)
