"""VAT moves vectors along the gradient of the loss and asks for the loss once more."""

from __future__ import annotations

import pytest
import torch

from recbench.core.errors import UserError
from recbench.objectives.contrastive.base import build_auxiliaries
from recbench.objectives.contrastive.vat import moved

HOSTS = ["sasrec", "gru4rec", "lrurec"]


def made(build, dataset, host="sasrec", **keys):
    own = {"loss": "softmax"} if host == "gru4rec" else {}
    model = build(host, auxiliary=["vat"], **own)
    for key, value in keys.items():
        setattr(model.config.vat, key, value)
    return model, build_auxiliaries(model, dataset)[0]


@pytest.mark.parametrize("host", HOSTS)
def test_without_a_move_the_term_is_the_loss_and_with_one_it_is_more(build, dataset, batch, host):
    model, auxiliary = made(build, dataset, host, eps=0.0)
    auxiliary.draw(batch)
    torch.testing.assert_close(auxiliary.terms(model)["vat"], model.training_loss(batch))
    model, auxiliary = made(build, dataset, host, eps=0.3)
    auxiliary.draw(batch)
    before = model.item_vectors()
    term = auxiliary.terms(model)["vat"]
    assert term > model.training_loss(batch)
    assert torch.equal(model.item_vectors(), before)
    term.backward()
    assert model.item_embedding.weight.grad.abs().sum() > 0


def test_a_move_is_as_long_as_it_is_said_and_random_ones_hurt_less(build, dataset, batch):
    model, auxiliary = made(build, dataset, adaptive=False, eps=0.3)
    read, scored = auxiliary.moves(model, batch)
    length = 0.3 * model.item_embedding.weight[1:].norm(dim=1).mean()
    torch.testing.assert_close(read.norm(dim=-1)[batch.mask], length.expand(int(batch.mask.sum())).detach())
    assert not read[~batch.mask].any()
    hit = torch.zeros(len(scored), dtype=torch.bool)
    hit[batch.targets[batch.mask]] = True
    assert torch.equal(scored.norm(dim=1) > 0, hit)
    auxiliary.config.direction = "random"
    losses = []
    for moves in ((read, scored), auxiliary.moves(model, batch)):
        with moved(model, *moves), torch.no_grad():
            losses.append(float(model.training_loss(batch)))
    assert losses[0] > losses[1]


def test_windows_that_are_fitted_well_are_moved_further(build, dataset, batch):
    model, auxiliary = made(build, dataset)
    states = model.hidden_states(batch)[-1].detach()
    items = torch.nn.functional.normalize(model.item_vectors().detach(), dim=1)
    first = items[batch.targets[0]] * 30.0
    states[0, : len(first)] = first
    strength = auxiliary.strengths(model, states, batch, items)
    assert strength.argmax() == 0
    assert 1.5 < strength[0] <= 2.0
    auxiliary.config.adaptive = False
    assert auxiliary.strengths(model, states, batch, items).tolist() == [1.0] * len(batch)


def test_a_model_that_reads_a_graph_is_refused(build, dataset):
    with pytest.raises(UserError, match=r"'srgnn' reads items as the nodes of a graph"):
        made(build, dataset, "srgnn")


def step(model, auxiliary, batch):
    """A training step's loss as the learner puts it together, and its gradients."""
    auxiliary.draw(batch)
    own = auxiliary.own_loss(model, batch)
    loss = (model.training_loss(batch) if own is None else own) + auxiliary.terms(model)["vat"]
    model.zero_grad()
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("adaptive", [True, False])
def test_a_shared_pass_gives_the_gradients_of_two(build, dataset, batch, host, adaptive):
    """Without dropout all passes of a step see the same network, so both ways are one."""
    model, auxiliary = made(build, dataset, host, eps=0.3, adaptive=adaptive)
    model.eval()
    loss, grads = step(model, auxiliary, batch)
    auxiliary.config.passes = "shared"
    shared, found = step(model, auxiliary, batch)
    torch.testing.assert_close(shared, loss)
    assert found.keys() == grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(found[name], grad, atol=1e-6, rtol=1e-4)


def test_a_shared_pass_scales_its_gradients_with_the_loss(build, dataset, batch):
    model, auxiliary = made(build, dataset, passes="shared", weight=1.0)
    model.eval()
    _, once = step(model, auxiliary, batch)
    auxiliary.draw(batch)
    own = auxiliary.own_loss(model, batch)
    model.zero_grad()
    ((own + auxiliary.terms(model)["vat"]) * 0.5).backward()
    torch.testing.assert_close(model.item_embedding.weight.grad, once["item_embedding.weight"] * 0.5)


def test_a_shared_pass_is_none_at_weight_0(build, dataset, batch):
    model, auxiliary = made(build, dataset, passes="shared", weight=0.0)
    auxiliary.draw(batch)
    assert auxiliary.own_loss(model, batch) is None
    assert auxiliary.terms(model) == {}


def test_with_a_teacher_the_gradient_is_asked_for_apart(build, dataset, batch):
    """The learner asks nothing of the own loss then, and the term is made as ever."""
    model, auxiliary = made(build, dataset, passes="shared", eps=0.3)
    auxiliary.draw(batch)
    assert auxiliary.terms(model)["vat"] > model.training_loss(batch)
