"""The terms beside the loss of models of users and items: against their formulas, within a training step, and refused where they do not fit."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recbench.config.settings import TrainingConfig
from recbench.core.errors import UserError
from recbench.data.prepared import PreparedData
from recbench.data.training import TrainingData
from recbench.data.training_rows import training_rows
from recbench.models.auxiliary import OF_USERS_AND_ITEMS
from recbench.models.base import ModelContext
from recbench.models.registry import lookup
from recbench.models.user_item_terms import RLMRecConConfig, SGLConfig
from recbench.nn.graph.bipartite import Bipartite
from recbench.objectives.auxiliary.directau import uniformity
from recbench.objectives.auxiliary.lightgcl import strongest
from recbench.objectives.auxiliary.node_contrast import node_contrast
from recbench.objectives.auxiliary.noise import with_noise
from recbench.objectives.auxiliary.profiles import profiles
from recbench.objectives.contrastive.base import build_auxiliaries
from recbench.training.learner import Learner

N_ITEMS = 9
DRAW = np.random.default_rng(0)
SEQUENCES = [(DRAW.permutation(N_ITEMS)[: DRAW.integers(2, 6)] + 1).tolist() for _ in range(12)]


@pytest.fixture
def made(tmp_path):
    """made(model, auxiliary, **keys of the model) -> (Learner, a batch of all events)."""

    def make(name, auxiliary, **keys):
        offsets = np.cumsum([0, *map(len, SEQUENCES)])
        folder, items = tmp_path / str(len(list(tmp_path.iterdir()))), np.concatenate(SEQUENCES)
        data = PreparedData.from_arrays(folder, items, offsets, np.arange(len(items)), n_items=N_ITEMS)
        train = TrainingData(data, data.offsets[:-1], data.offsets[1:])
        entry = lookup(name)
        torch.manual_seed(0)
        texts = F.pad(torch.randn(N_ITEMS, 6), (0, 0, 1, 0))
        context = ModelContext(N_ITEMS, train.n_users, 50, train=train, text_vectors=texts)
        model = entry.model(entry.config(auxiliary=[auxiliary], hidden_size=8, deviation=0.5, **keys), context)
        dataset = training_rows(train, "events", 1)
        return Learner(model, TrainingConfig(), 1, auxiliaries=build_auxiliaries(model, dataset)), dataset[
            np.arange(len(dataset))
        ]

    return make


@pytest.mark.parametrize("name", OF_USERS_AND_ITEMS)
def test_a_step_moves_both_tables_and_all_that_the_term_learns(made, name):
    learner, batch = made("lightgcn", name, bpr_weight=0.0, penalty=0.0)
    learner.train()
    learner.start_epoch(0, 1)
    loss = learner.training_step(batch, 0)
    assert loss.isfinite()
    loss.backward()
    for key, part in learner.named_parameters():
        assert part.grad is not None, key
        assert part.grad.isfinite().all(), key
        assert part.grad.any(), key
    assert not learner.student.item_embedding.weight.grad[0].any()  # the pad
    assert any(name in term or name == "directau" for term in learner.sums)
    learner.student.eval()
    assert learner.student.step is None


@pytest.mark.parametrize("name", ["sgl", "simgcl", "xsimgcl", "lightgcl", "rlmrec_gen"])
def test_terms_of_a_graph_are_refused_by_a_model_without_one(made, name):
    with pytest.raises(UserError, match=rf"'bpr_mf' has no graph of users and items that model.auxiliary={name}"):
        made("bpr_mf", name)


def test_terms_of_another_kind_of_model_are_refused_by_name(made, run_config, tmp_path):
    for model, term, kind in (("sasrec", "sgl", "users and items"), ("bpr_mf", "duorec", "histories")):
        with pytest.raises(UserError, match=rf"auxiliary={term} is for models of {kind}.*'{model}' is none"):
            run_config(tmp_path, f"model={model}", f"model.auxiliary=[{term}]")
    with pytest.raises(UserError, match=r"model\.sgl\.rivals 'al'; did you mean 'all'"):
        run_config(tmp_path, "model=bpr_mf", "model.auxiliary=[sgl]", "model.sgl.rivals=al")


def test_directau_is_its_formula(made):
    learner, batch = made("bpr_mf", "directau", bpr_weight=0.0, penalty=0.0)
    learner.train()
    learner.training_step(batch, 0)
    model = learner.student
    user = F.normalize(model.user_embedding.weight[batch.user], dim=1)
    item = F.normalize(model.item_embedding.weight[batch.items[:, 0]], dim=1)
    expected = [-2 * (a - b).square().sum() for a, b in itertools.combinations(user, 2)]
    torch.testing.assert_close(uniformity(user), torch.stack(expected).exp().mean().log())
    torch.testing.assert_close(learner.sums["alignment"], (user - item).square().sum(1).mean())
    torch.testing.assert_close(learner.sums["uniformity"], (uniformity(user) + uniformity(item)) / 2)


@pytest.mark.parametrize("rivals", ["all", "batch"])
def test_the_contrast_of_nodes_is_info_nce(rivals):
    first, second = torch.randn(2, 20, 4, dtype=torch.float64).unbind(0)
    first.requires_grad_(), second.requires_grad_()
    node = torch.tensor([3, 0, 19, 7])
    config = SGLConfig(temperature=0.3, rivals=rivals)
    scores = F.normalize(first[node], dim=1) @ F.normalize(second, dim=1).T / 0.3
    among = (scores[:, node], torch.arange(4)) if rivals == "batch" else (scores, node)
    expected = F.cross_entropy(*among)
    torch.testing.assert_close(node_contrast(first, second, node, config), expected)
    found = torch.autograd.grad(node_contrast(first, second, node, config), (first, second))
    for one, other in zip(found, torch.autograd.grad(expected, (first, second)), strict=True):
        torch.testing.assert_close(one, other)


def test_noise_keeps_the_orthant_and_has_its_length():
    x = torch.randn(30, 8)
    moved = with_noise(x, 0.3)
    torch.testing.assert_close((moved - x).norm(dim=1), torch.full((30,), 0.3))
    assert torch.equal(torch.sign(moved), torch.sign(x))


def test_sgl_draws_its_views_once_an_epoch_by_the_seed(made):
    learner, _ = made("lightgcn", "sgl")
    (term,) = learner.auxiliaries
    learner.start_epoch(3, 1)
    first = [view.dense() for view in term.views]
    assert not torch.equal(*first)
    learner.start_epoch(4, 1)
    assert not torch.equal(term.views[0].dense(), first[0])
    learner.start_epoch(3, 1)
    assert all(torch.equal(view.dense(), old) for view, old in zip(term.views, first, strict=True))


def test_xsimgcl_leaves_no_noise_in_evaluation(made):
    learner, _ = made("lightgcn", "xsimgcl")
    learner.train()
    assert not torch.equal(learner.student.vectors()[0], learner.student.vectors()[0])
    learner.eval()
    assert torch.equal(learner.student.vectors()[0], learner.student.vectors()[0])


def test_the_strongest_directions_are_those_of_the_matrix():
    graph = Bipartite.of_pairs(torch.arange(30) % 7, torch.arange(30) % 9 + 1, 7, 9)
    left, right = strongest(graph, 6)
    matrix = graph.dense()[:7, 7:]
    u, s, v = torch.linalg.svd(matrix)
    torch.testing.assert_close(left @ right.T, u[:, :6] * s[:6] @ v[:6], atol=1e-5, rtol=1e-4)


def test_profiles_of_users_are_means_of_training_items_and_can_be_dealt_out_anew(made):
    learner, _ = made("bpr_mf", "rlmrec_con")
    model = learner.student
    users, items = profiles(model, None)
    torch.testing.assert_close(users[2], F.normalize(items[torch.tensor(SEQUENCES[2])].mean(0), dim=0))
    dealt, other = profiles(model, 3)
    assert not torch.equal(other, items)
    torch.testing.assert_close(other.sort(dim=0).values, items.sort(dim=0).values)
    assert not torch.equal(dealt, users)
    model.text_vectors = None
    with pytest.raises(UserError, match="needs a vector of each item's text"):
        profiles(model, None)
    RLMRecConConfig(shuffle=3).check("model.rlmrec_con")


def test_hidden_nodes_are_learned_from_their_neighbours_alone(made):
    learner, batch = made("lightgcn", "rlmrec_gen", bpr_weight=0.0, penalty=0.0)
    learner.train()
    (term,) = learner.auxiliaries
    term.draw(batch)
    hidden = term.hidden.clone()
    learner.student.training_loss(batch)
    torch.testing.assert_close(learner.student.step_layers[0][hidden], term.token.expand(len(hidden), -1))
    (term.terms(learner.student)["rlmrec_gen"]).backward()
    table = torch.cat([learner.student.user_embedding.weight.grad, learner.student.item_embedding.weight.grad])
    assert not table[hidden].any()
    assert table.any()
