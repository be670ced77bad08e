"""FREEDOM, BM3, DGVAE: what they do with vectors of items, against plain computations; that a planted signal is found; stored without vectors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.experiment.model_contract.world import fresh, world
from recbench.models.collaborative.bm3 import apart
from recbench.models.collaborative.dgvae import disagreement, likelihood
from recbench.nn.graph.item_neighbours import item_graph, nearest, shares_of
from recbench.nn.item_sets import sets_by_length
from recbench.nn.losses import mixture

SMALL = {"hidden_size": 8, "deviation": 0.3}


def test_nearest_items_are_those_of_the_largest_cosines_and_the_item_itself_is_first(monkeypatch):
    vectors = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    vectors[0] = vectors[5] = 0
    monkeypatch.setattr("recbench.nn.graph.item_neighbours.CELLS_AT_ONCE", 16)
    item, near = nearest(vectors, 3)
    assert set(item.tolist()) == {1, 2, 3, 4, 6, 7, 8}
    unit = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-9)
    for row in range(0, len(item), 3):
        order = sorted((i for i in range(9) if vectors[i].any()), key=lambda i: -float(unit[item[row]] @ unit[i]))
        assert near[row : row + 3].tolist() == order[:3]
        assert near[row] == item[row]
    dense = item_graph({"image": vectors, "audio": vectors}, shares_of(["image", "audio"], 0.1), 3).dense()
    assert dense.sum(dim=1).tolist() == pytest.approx([0, 1, 1, 1, 1, 0, 1, 1, 1])


def test_freedom_prunes_each_epoch_in_training_alone_and_adds_what_alike_items_have():
    model = fresh("freedom", {**SMALL, "pruned": 0.75})
    whole = model.graph().n_pairs
    model.start_epoch(0, torch.Generator().manual_seed(1))
    first = model.training_graph()
    assert first.n_pairs == round(whole / 4)
    model.start_epoch(1, torch.Generator().manual_seed(2))
    assert not torch.equal(model.training_graph().users, first.users) or not torch.equal(
        model.training_graph().items, first.items
    )
    plain = fresh("freedom", {**SMALL, "item_layers": 0})
    with torch.no_grad():
        expected = plain.item_vectors() + model.item_graph().dense() @ model.item_embedding.weight
        torch.testing.assert_close(model.item_vectors(), expected)


def test_the_loss_of_bm3_is_that_of_its_paper():
    model = fresh("bm3", {**SMALL, "view_dropout": 0.0, "penalty": 0.5}).train()
    batch = world().rows["events"]
    users, items = model.compared()
    hu, hi, p = users[batch.user], items[batch.items[:, 0]], model.predictor
    loss = apart(p(hu), hi) + apart(p(hi), hu)
    for kind in ("image", "audio"):
        told = model.projections[kind](model.table(kind)[batch.items[:, 0]])
        loss = loss + 2.0 * (apart(p(told), hi) + apart(p(told), told))
    loss = loss + 0.5 * (users.norm() + items.norm()) / model.n_items
    assert model.training_loss(batch).item() == pytest.approx(loss.item(), rel=1e-5)
    # What the vectors of items say moves P, and no item: all targets are views without a gradient.
    plain = fresh("bm3", {**SMALL, "view_dropout": 0.0, "penalty": 0.5, "modality_weight": 0.0}).train()
    plain.load_state_dict(
        {key: value for key, value in model.state_dict().items() if not key.startswith("projections")}
    )
    for each in (model, plain):
        each.training_loss(batch).backward()
    torch.testing.assert_close(model.item_embedding.weight.grad, plain.item_embedding.weight.grad)
    assert not torch.allclose(model.predictor.weight.grad, plain.predictor.weight.grad)
    with pytest.raises(UserError, match="bm3 knows no negatives"):
        fresh("bm3", {**SMALL, "n_negatives": 2})


def test_the_two_steps_along_the_graph_of_items_are_those_of_the_dense_product():
    model = fresh("dgvae", {"hidden_size": 8, "prototypes": 2, "words": 50})
    dense, own = model._graph.dense(), model.items.encoder
    x, _ = dense_sets(model)
    with torch.no_grad():
        torch.testing.assert_close(x @ model.encoder(), (x + x @ dense @ dense) / 2 @ own)
    assert float(likelihood(torch.zeros(1, 4), torch.tensor([[0.0, 1.0, 1.0, 0.0]]))) == pytest.approx(2 * np.log(4))
    same = torch.eye(2)[None]
    assert float(disagreement(same, same)) < float(disagreement(same, same.flip(1)))


def dense_sets(model):
    """(x [B, V], the same sets in groups) of the histories of the contract's world."""
    sets = sets_by_length(world().histories.items)
    assert len(sets) > 1
    x = torch.cat(
        [torch.zeros(len(items), model.n_items + 1).scatter_add_(1, items, there.float()) for items, there in sets]
    )
    assert x.max() == 1
    assert not x[:, 0].any()
    return x, sets


def test_what_dgvae_makes_of_sets_is_what_the_dense_rows_of_its_paper_give():
    model = fresh("dgvae", {"hidden_size": 8, "prototypes": 3, "words": 50, "dropout": 0.0})
    side, (x, sets) = model.items.double(), dense_sets(model)
    side.eval()  # no noise and no Gumbel draws; the product in float64 either way
    c, x = side.assigned(), x.double()
    z, kl = side.encoded_sets(sets, c, side.encoder)
    z_dense, kl_dense = side.encoded(x, c, side.encoder)
    torch.testing.assert_close((z, kl), (z_dense, kl_dense))
    found = []
    for loss in (
        side.set_loss(z.double(), c, sets),
        likelihood(side.decoded(z_dense.double(), c)[:, 1:], x[:, 1:]),
    ):
        side.zero_grad()
        loss.backward(retain_graph=True)
        found.append([loss.detach(), *(part.grad.clone() for part in side.parameters())])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)
    assert all(part.abs().sum() > 0 for part in found[0])


def test_scores_in_chunks_are_those_of_the_whole(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    z, table, log_shares = (torch.randn(shape, generator=generator) for shape in ((9, 2, 4), (7, 4), (7, 2)))
    monkeypatch.setattr(mixture, "CHUNK_VALUES", 30)
    expected = ((z @ table.T) + log_shares.T).logsumexp(1)
    torch.testing.assert_close(mixture.mixture_scores(z, table, log_shares), expected)


def test_a_partition_in_chunks_is_the_partition_in_one(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    z, table, log_shares = (torch.randn(shape, generator=generator) for shape in ((9, 2, 4), (7, 4), (7, 2)))
    items, there = torch.randint(1, 7, (9, 3), generator=generator), torch.ones(9, 3, dtype=torch.bool)
    found = []
    for values in (10**6, 30):
        monkeypatch.setattr(mixture, "CHUNK_VALUES", values)
        parts = [part.clone().requires_grad_() for part in (z, table, log_shares)]
        loss = mixture.mixture_loss(*parts, [(items, there)])
        loss.backward()
        found.append([loss.detach(), *(part.grad for part in parts)])
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("name", ["freedom", "bm3"])
def test_a_finished_run_is_read_without_vectors(name, monkeypatch):
    model = fresh(name, SMALL)
    state = model.stored_state()
    assert not [key for key in state if key.startswith(("projections", "features_", "predictor"))]
    from recbench.experiment.model_contract import world as made

    monkeypatch.setattr(made, "ModelContext", lambda *args, features, **rest: made_context(*args, **rest))
    from recbench.models.base import ModelContext as made_context

    bare = fresh(name, SMALL)
    bare.load_stored_state(state)
    assert torch.equal(bare.score(world().histories), model.score(world().histories))


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("freedom", {"pruned": 1.0}, "model.pruned=1 must lie between 0 and below 1"),
        ("freedom", {"neighbours": 0}, "model.neighbours must be a number at least 1"),
        ("bm3", {"view_dropout": -0.1}, "model.view_dropout"),
        ("dgvae", {"prototypes": 0}, "model.prototypes"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(name, keys, words):
    with pytest.raises(UserError, match=words):
        fresh(name, keys)


def test_a_history_is_all_that_dgvae_needs_of_a_user():
    model = fresh("dgvae", {"hidden_size": 8, "prototypes": 2, "words": 50})
    histories = world().histories
    with torch.no_grad():
        stranger = replace(histories, user=histories.user * 0 + 10_000)
        assert torch.equal(model.score(stranger), model.score(histories))
