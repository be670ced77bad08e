"""KGAT and DiffKG: the graph they walk, what an epoch draws, and the controls."""

import pytest
import torch

from recbench.core.errors import UserError
from recbench.experiment.model_contract.world import fresh, world
from recbench.models.laid_over import needs_of

KGAT = {"hidden_size": 8, "deviation": 0.3, "layer_sizes": [8], "relation_size": 4}
DIFFKG = {"hidden_size": 8, "deviation": 0.3, "denoiser_size": 8, "denoiser_passes": 1}


def test_the_graph_of_kgat_holds_pairs_triples_and_the_inverses_of_both():
    model, split = fresh("kgat", KGAT), world().split
    edges, known = model.edges(), model.knowledge
    pairs = {
        (user, int(item))
        for user in range(model.n_users)
        for item in world().data.items[split.train_start[user] : split.train_end[user]]
    }
    triples = {tuple(row) for row in known.triples.tolist()}
    found = set(zip(edges.head.tolist(), edges.relation.tolist(), edges.tail.tolist(), strict=True))
    u, p = model.n_users, known.n_relations
    expected = {(user, 0, u + item) for user, item in pairs} | {(u + item, 1, user) for user, item in pairs}
    expected |= {(u + h, 2 + r, u + t) for h, r, t in triples} | {(u + t, 2 + p + r, u + h) for h, r, t in triples}
    assert found == expected


def test_attention_changes_with_the_epoch_and_not_within_it():
    model = fresh("kgat", KGAT).train()
    before = model.edges().even.weight.clone()
    model.start_epoch(0, torch.Generator())
    attended = model._attended.weight.clone()
    assert not torch.equal(attended, before)
    model.training_loss(world().rows["events"]).backward()
    assert torch.equal(model._attended.weight, attended)
    sums = torch.zeros(model.edges().n_nodes).index_add(0, model.edges().head, attended)
    assert sums[model.edges().head.unique()].tolist() == pytest.approx(
        [1.0] * len(model.edges().head.unique()), abs=1e-5
    )


def test_without_knowledge_kgat_reads_users_and_items_alone():
    model = fresh("kgat", {**KGAT, "use_knowledge": False})
    assert model.entity_embedding is None
    assert set(model.edges().relation.tolist()) == {0, 1}
    assert model.needs(model.config) == frozenset()


def test_an_auxiliary_that_reads_texts_asks_for_them_whatever_the_model_reads():
    model = fresh("kgat", {**KGAT, "auxiliary": ["rlmrec_con"]})
    assert needs_of(type(model), model.config) == {"knowledge", "text_vectors"}


@pytest.mark.parametrize("graph", ["denoised", "random_subset"])
def test_the_second_view_keeps_as_many_triples_of_each_head_whoever_chooses(graph):
    model = fresh("diffkg", {**DIFFKG, "graph": graph, "keep": 2, "edge_dropout": 0.0})
    model.start_epoch(0, torch.Generator().manual_seed(0))
    head, _, _ = model.triples()
    counts = torch.bincount(head)
    assert torch.equal(torch.bincount(head[model.kept], minlength=len(counts)), counts.clamp(max=2))
    assert model.second().n_edges == 2 * int(model.kept.sum())
    kept = model.kept.clone()
    model.start_epoch(1, torch.Generator().manual_seed(1))
    assert torch.equal(model.kept, kept)
    model.start_epoch(5, torch.Generator().manual_seed(1))
    assert graph == "denoised" or not torch.equal(model.kept, kept)


def test_the_original_graph_gives_two_equal_views_as_the_authors_release_trains():
    model = fresh("diffkg", {**DIFFKG, "graph": "original", "message_dropout": 0.0}).train()
    model.start_epoch(0, torch.Generator())
    assert model.second() is model.whole()
    for one, other in zip(model.vectors(), model.vectors_of(model.second()), strict=True):
        assert torch.equal(one, other)


def test_a_stopped_training_goes_on_with_the_same_view():
    model, again = fresh("diffkg", DIFFKG), fresh("diffkg", DIFFKG)
    model.start_epoch(0, torch.Generator().manual_seed(0))
    again.load_state_dict(model.state_dict())
    again.start_epoch(1, torch.Generator().manual_seed(9))
    assert torch.equal(again.second().tail, model.second().tail)


@pytest.mark.parametrize("name", ["kgat", "diffkg"])
def test_a_finished_run_holds_nothing_of_the_graph(name):
    model = fresh(name, {"kgat": KGAT, "diffkg": DIFFKG}[name])
    assert set(model.stored_state()) == {
        "user_embedding.weight",
        "item_embedding.weight",
        "known",
        "served_users",
        "served_items",
    }


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("kgat", {"layer_sizes": [0]}, "model.layer_sizes"),
        ("kgat", {"message_dropout": 1.0}, "model.message_dropout"),
        ("diffkg", {"graph": "noised"}, "unknown model.graph 'noised'; did you mean 'denoised'"),
        ("diffkg", {"keep": 0}, "model.keep"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(name, keys, words):
    with pytest.raises(UserError, match=words):
        fresh(name, keys)
