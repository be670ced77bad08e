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
