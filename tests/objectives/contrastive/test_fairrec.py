"""FairRec: an adversary that learns an attribute of the user from the states, and states that unlearn it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from recbench.core.errors import UserError
from recbench.experiment.run import run
from recbench.models.auxiliary import FairRecConfig
from recbench.objectives.contrastive.base import build_auxiliaries
from recbench.objectives.contrastive.fairrec import labels

SHORT = ("training.max_epochs=1", "tuned=off", "model.hidden_size=16", "model.n_layers=1")


@pytest.fixture
def made(build, dataset, tiny_data):
    def make(host="sasrec", **keys):
        model = build(host, auxiliary=["fairrec"])
        model.config.fairrec = FairRecConfig(attribute="group", **keys)
        words = ["ab"[user % 2] if user % 5 else None for user in range(tiny_data.n_users)]
        model.lent_user_attributes = {"group": words, "same": ["x"] * len(words)}
        torch.manual_seed(3)
        return model, build_auxiliaries(model, dataset)[0]

    return make


@pytest.mark.parametrize("host", ["sasrec", "gru4rec", "lrurec"])
def test_it_stands_beside_every_host_and_every_term_reaches_it(made, batch, host):
    model, auxiliary = made(host, aware=0.5, orthogonal=0.1)
    auxiliary.draw(batch)
    terms = auxiliary.terms(model)
    assert set(terms) == {"fairrec", "fairrec_aware", "fairrec_cosine"}
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, model.item_embedding.weight, retain_graph=True, allow_unused=True)
        assert (gradient is None) == (name == "fairrec_aware")  # the second part moves no vector of the model
    assert not set(model.state_dict()) & {"lent_user_attributes", "label"}


def test_the_states_go_against_the_adversary_and_it_goes_its_own_way(made, batch):
    found = {}
    for weight in (0.5, 2.0):
        model, auxiliary = made(weight=weight)
        auxiliary.draw(batch)
        before = [p.clone() for p in auxiliary.adversary.parameters()]
        term = auxiliary.terms(model)["fairrec"]
        (gradient,) = torch.autograd.grad(term, model.item_embedding.weight)
        assert any(not torch.equal(a, b) for a, b in zip(before, auxiliary.adversary.parameters(), strict=True))
        assert not any(
            p.requires_grad for p in auxiliary.adversary.parameters()
        )  # the model's optimiser leaves it alone
        found[weight] = term, gradient, auxiliary.adversary[0].weight
    assert found[0.5][0] < 0
    torch.testing.assert_close(4.0 * found[0.5][0], found[2.0][0])
    torch.testing.assert_close(4.0 * found[0.5][1], found[2.0][1])
    assert torch.equal(found[0.5][2], found[2.0][2])


def test_the_adversarys_optimiser_goes_on_after_a_break(made, batch):
    model, one = made()
    _, two = made()
    for auxiliary in (one, two):
        auxiliary.draw(batch)
        auxiliary.terms(model)
    state = deepcopy(one.state_dict())
    _, again = made()
    again.load_state_dict(state)
    for auxiliary in (two, again):
        auxiliary.draw(batch)
        auxiliary.terms(model)
    assert all(torch.equal(a, b) for a, b in zip(two.adversary.parameters(), again.adversary.parameters(), strict=True))


def test_users_of_whom_nothing_is_known_are_left_out(made, batch):
    model, auxiliary = made()
    auxiliary.draw(batch)
    whole = auxiliary.terms(model)["fairrec"]
    unknown = batch.user % 5 == 0
    assert unknown.any()
    rows = (~unknown).nonzero()[:, 0]
    part = replace(
        batch,
        items=batch.items[rows],
        timestamps=batch.timestamps[rows],
        lengths=batch.lengths[rows],
        user=batch.user[rows],
    )
    fresh_one = made()[1]
    fresh_one.draw(part)
    torch.testing.assert_close(fresh_one.terms(model)["fairrec"], whole)
    auxiliary.draw(replace(batch, user=batch.user * 0))
    assert auxiliary.terms(model) == {}


def test_the_control_deals_the_known_values_anew():
    known = {"group": ["a", None, "b", "b", "a", "b", None, "a"]}
    plain, n_values = labels(known, "group")
    dealt, _ = labels(known, "group", shuffle=1)
    assert n_values == 2
    assert ((plain < 0) == (dealt < 0)).all()
    assert sorted(plain.tolist()) == sorted(dealt.tolist())
    assert plain.tolist() != dealt.tolist()


def test_mistakes_are_told_by_name(made, run_config, tmp_path):
    with pytest.raises(UserError, match=r"model\.fairrec\.attribute is missing"):
        run_config(tmp_path, "model=sasrec", "model.auxiliary=[fairrec]")
    for attribute, words in (("grup", "'grup'; did you mean 'group'"), ("region2", "nothing is known")):
        asked = run_config(
            tmp_path, "model=sasrec", "model.auxiliary=[fairrec]", f"model.fairrec.attribute={attribute}", *SHORT
        )
        with pytest.raises(UserError, match=words):
            run(asked)
    with pytest.raises(UserError, match="all users have the same same"):
        labels({"same": ["x", "x"]}, "same")


def test_data_that_know_nothing_of_their_users_are_refused(compose, tmp_path):
    from recbench.config.run import RunConfig

    (tmp_path / "events.csv").write_text(
        "user,item,timestamp\n" + "".join(f"{u},{i},{i}\n" for u in range(9) for i in range(9))
    )
    words = (
        "data=table",
        f"data.path={tmp_path}/events.csv",
        "data.k_core=0",
        "tracking=off",
        "hardware=cpu",
        f"runs_dir={tmp_path}",
    )
    config = RunConfig.from_hydra(
        compose(*words, "model=sasrec", "model.auxiliary=[fairrec]", "model.fairrec.attribute=gender")
    )
    with pytest.raises(
        UserError, match=r"needs user_attributes, which data=table does not have; name a table of users"
    ):
        run(config)
