"""Target attention against computations that are obviously right, and its two ways to a ranking of the catalogue."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.func import functional_call

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.experiment.model_contract.world import fresh, trained, world
from recbench.models.base import ModelContext
from recbench.models.registry import lookup
from recbench.nn.target.activation_unit import ActivationUnit, Dice, ProductsOfPairs
from recbench.nn.target.history import best_events

SMALL = {"hidden_size": 8, "layers": [8]}


def model_of(name, n_items=20, **keys):
    entry = lookup(name)
    torch.manual_seed(0)
    return entry.model(entry.config(**{**SMALL, **keys}), ModelContext(n_items, 4, 10)).eval()


@pytest.fixture
def batch():
    items = torch.tensor([[3, 5, 7, 2], [4, 9, 0, 0]])
    return Batch(items, torch.tensor([[0, 60, 90, 95], [7, 8, 0, 0]]), torch.tensor([4, 2]), torch.arange(2))


def test_the_activation_unit_is_its_layer_on_the_four_parts_side_by_side():
    torch.manual_seed(0)
    unit = ActivationUnit(4, 3).eval()
    v, e, real = torch.randn(2, 3, 4), torch.randn(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)
    wide = torch.cat(
        [
            x.expand(2, 3, 5, 4)
            for x in (v[:, :, None], e[:, None], v[:, :, None] - e[:, None], v[:, :, None] * e[:, None])
        ],
        -1,
    )
    expected = unit.last(unit.activation(unit.first(wide))).squeeze(-1)
    torch.testing.assert_close(unit(v, e, real), expected)
    many = unit(v.repeat(1, 2, 1), e, real)  # more candidates than hidden units: by another way
    torch.testing.assert_close(many, expected.repeat(1, 2, 1))


def test_the_activation_unit_reads_real_events_alone():
    torch.manual_seed(0)
    v, e, real = torch.randn(2, 2, 4), torch.randn(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)
    real[:, 3:] = False
    units = [ActivationUnit(4, 3).train() for _ in range(2)]
    units[1].load_state_dict(units[0].state_dict())
    found, expected = units[0](v, e.masked_fill(~real[..., None], 1e6), real), units[1](v, e[:, :3], real[:, :3])
    torch.testing.assert_close(found[..., :3], expected)
    torch.testing.assert_close(units[0].activation.variance, units[1].activation.variance)


def test_gradients_of_dice_and_of_products_of_pairs(monkeypatch):
    monkeypatch.setattr("recbench.nn.target.activation_unit.PRODUCTS_AT_ONCE", 15)
    torch.manual_seed(0)
    x, alpha = torch.randn(7, 3, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    dice = Dice(3).double().train()

    def of_dice(x, alpha):
        return functional_call(dice, {"alpha": alpha}, (x,))

    assert torch.autograd.gradcheck(of_dice, (x.requires_grad_(), alpha.requires_grad_()))
    shapes = {"v": (2, 3, 4), "e": (5, 4), "w": (2, 4)}
    v, e, w = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes.values())
    row = torch.tensor([0, 0, 0, 1, 1])
    torch.testing.assert_close(ProductsOfPairs.apply(v, e, row, w), (v[row] * e[:, None]) @ w.T)
    assert torch.autograd.gradcheck(lambda v, e, w: ProductsOfPairs.apply(v, e, row, w), (v, e, w))


@pytest.mark.parametrize("name", ["tin", "qin"])
def test_groups_of_length_change_nothing(name, monkeypatch):
    model, n = model_of(name), torch.tensor([1, 5, 2, 3, 4, 1])
    items = torch.randint(1, 20, (6, 5)) * (torch.arange(5) < n[:, None])
    batch = Batch(items, torch.arange(30).view(6, 5), n, torch.arange(6))
    asked = torch.randint(1, 20, (6, 2))
    whole = model.features_of_all_lengths(batch, asked)
    monkeypatch.setattr("recbench.nn.target.history.SHORTEST_GROUP", 1)
    torch.testing.assert_close(model.features_of_all_lengths(batch, asked), whole)


def test_tin_without_places_and_product_is_softmax_attention(batch):
    model = model_of("tin", position="none", product=False)
    items = torch.tensor([[1, 2], [3, 4]])
    for row in range(2):
        keys = model.item_embedding(batch.items[row, : batch.lengths[row]])
        for c in range(2):
            q = model.item_embedding(items[row, c])
            pooled = (keys @ q / 8**0.5).softmax(0) @ keys
            expected = model.head(torch.cat([q, pooled]))
            torch.testing.assert_close(model.pair_scores(batch, items)[row, c], expected.squeeze())


def test_tins_places_count_events_or_seconds(batch):
    assert model_of("tin").places(batch).tolist() == [[4, 3, 2, 1], [2, 1, 0, 0]]
    # 95, 35, 5 and 0 seconds before the newest event: 1 + floor(log2(seconds + 1)).
    assert model_of("tin", position="log_gap").places(batch).tolist()[0] == [7, 6, 3, 1]


def test_dare_with_room_for_all_events_is_soft_attention(batch):
    items = torch.tensor([[1, 2], [3, 4]])
    model = model_of("dare", top_k=3)
    few = model.features(batch, items)
    soft = model._features(batch, items, model.event_scores(batch, items), 99)
    torch.testing.assert_close(few[1], soft[1])  # two events, and three may stay
    assert not torch.allclose(few[0], soft[0])
    # The one that is left out counts for nothing.
    scores = model.event_scores(batch, items)
    weight = best_events(scores, batch.mask, 3)
    assert (weight > 0).sum(-1).tolist() == [[3, 3], [2, 2]]
    for c in range(2):
        best = scores[0, c].topk(3)
        torch.testing.assert_close(weight[0, c, best.indices], best.values.softmax(0))


def test_dares_tables_are_two_one_or_one_and_a_map():
    sizes = {}
    for tables in ("decoupled", "shared", "projected"):
        model = model_of("dare", tables=tables, search_weight=0.0)
        sizes[tables] = sum(p.numel() for p in model.parameters())
    assert sizes["decoupled"] == sizes["shared"] + 21 * 4  # a second table of half the width
    assert sizes["projected"] == sizes["shared"] + 8 * 4


@pytest.mark.parametrize("name", ["din", "tin", "dare"])
def test_pieces_and_a_history_without_events_change_nothing(name, batch, monkeypatch):
    model = model_of(name)
    whole = model.score(batch)
    monkeypatch.setattr("recbench.models.target.pairs.VALUES_AT_ONCE", 500)
    torch.testing.assert_close(model.score(batch), whole)
    asked = torch.tensor([[7, 1], [2, 2]])
    torch.testing.assert_close(model.score_candidates(batch, asked), whole.gather(1, asked))
    nothing = torch.zeros(2, 0, dtype=torch.int64)
    empty = replace(batch, items=nothing, timestamps=nothing, lengths=torch.zeros(2, dtype=torch.int64))
    assert model.score(empty).isfinite().all()


@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_a_negative_that_is_the_target_counts_for_nothing(loss):
    model = model_of("tin", n_items=1, loss=loss, n_negatives=3)
    scores = torch.tensor([[0.5, 9.0, 9.0, 9.0]])
    expected = 0.0 if loss == "softmax" else float(torch.nn.functional.softplus(torch.tensor(-0.5))) / 4
    found = model.loss_of_scores(scores, torch.ones(1, 3, dtype=torch.bool))
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_behind_a_retriever_the_rest_stays_in_its_order():
    keys = {**SMALL, "retriever": {"model": "markov"}, "k": 5}
    found = trained("tin", keys, 4)
    assert found["test/candidate_recall"] < 1  # more than the five would need a better retriever
    assert {"test/popularity_order_ndcg@10", "test/retriever_order_ndcg@10"} <= found.keys()
    model, histories = fresh("tin", keys), world().histories
    scores = model.score(histories)
    assert ((scores[:, 1:] > 1).sum(1) == 5).all()


def test_wrong_keys_are_refused_by_name():
    for keys, said in (
        ({"loss": "bpr"}, "model.loss"),
        ({"sampling": "all"}, "model.sampling"),
        ({"n_negatives": 0}, "model.n_negatives"),
        ({"activation": "tanh"}, "model.activation"),
        ({"layers": [0]}, "at least one unit"),
    ):
        with pytest.raises(UserError, match=said):
            model_of("din", **keys)
    with pytest.raises(UserError, match=r"model\.position"):
        model_of("tin", position="clock")
    with pytest.raises(UserError, match=r"names no model"):
        lookup("tin").model.dependencies(lookup("tin").config(retriever={"k": 3}))
