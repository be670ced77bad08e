"""What is particular to HICG: typed edges, kinds of behaviour, their crossing, and the contrastive form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recbench.core.errors import UserError
from recbench.data.batches import WindowDataset, evaluation_batches, training_windows
from recbench.data.prepared import PreparedData
from recbench.data.training import TrainingData
from recbench.models import weights
from recbench.models.base import ModelContext
from recbench.models.session.hicg import HICG, HICGConfig, kinds_of_behaviours
from recbench.nn.graph.session_graph import sparse_graphs

MAX_LENGTH = 20


@pytest.fixture(scope="module")
def context(tiny_data, tiny_split):
    return ModelContext(tiny_data.n_items, tiny_data.n_users, MAX_LENGTH, train=TrainingData.of(tiny_data, tiny_split))


@pytest.fixture(scope="module")
def batch(tiny_data, tiny_split):
    windows = training_windows(tiny_split.train_start, tiny_split.train_end, MAX_LENGTH)
    return WindowDataset(tiny_data, windows)[torch.arange(20).numpy()]


@pytest.fixture(scope="module")
def histories(tiny_data, tiny_split):
    chosen = tiny_split.test.select(np.arange(12))
    return next(found for _, found in evaluation_batches(tiny_data, chosen, MAX_LENGTH, 12))


def build(context, seed=0, **keys):
    torch.manual_seed(seed)
    return HICG(HICGConfig(**{"hidden_size": 12, "dropout": 0.0, **keys}), context).eval()


def scores(model, batch):
    with torch.no_grad():
        return model.score(batch)


@pytest.fixture
def training(tmp_path):
    """training(behaviours) -> TrainingData of one session with these behaviours; its last event is not training."""

    def of(*behaviours, names=("view", "cart", "buy")):
        n = len(behaviours)
        offsets = np.array([0, n])
        data = PreparedData.from_arrays(
            tmp_path, np.arange(1, n + 1), offsets, None, np.array(behaviours), behaviour_names=list(names)
        )
        return TrainingData(data, offsets[:-1], offsets[1:] - 1)

    return of


def by_hand(model, batch):
    """Scores of a model of one kind, as SR-GNN's kind of model without relations would give them, one session at a time."""
    step, found = model.steps[0], []
    for row, n in zip(batch.items, batch.lengths.tolist(), strict=True):
        items = row[None, :n]
        graph = sparse_graphs(items, torch.tensor([n]), model.n_items, count_edges=True)
        h = model.item_embedding.weight[graph.item]
        sent = graph.from_before(h) @ step.relations[0] + graph.from_after(h) @ step.relations[1]
        h = step.cell(sent, h)[graph.alias[0]]
        a = model.attend(torch.sigmoid(model.attend_node(h) + model.attend_current(h[-1]))).softmax(0)
        s = model.crossing.merge(torch.cat([h[-1], (a * h).sum(0)]))
        found.append(model.item_vectors() @ s)
    return torch.stack(found)


def test_with_one_behaviour_it_is_a_model_without_relations(context, histories, tmp_path):
    """Both ways to have one behaviour: data with a single one, and the key that makes all alike."""
    alike = build(context, behaviours="one")
    with torch.no_grad():
        expected = by_hand(alike, histories)
    torch.testing.assert_close(scores(alike, histories), expected, atol=1e-5, rtol=1e-4)

    data = context.train.data
    single = PreparedData.from_arrays(
        tmp_path, np.array(data.items), np.array(data.offsets), None, np.ones(len(data.items)), n_items=data.n_items
    )
    one = build(replace(context, train=TrainingData(single, context.train.start, context.train.end)))
    assert one.state_dict().keys() == alike.state_dict().keys()
    viewed = replace(histories, behaviours=histories.mask.long())
    torch.testing.assert_close(scores(one, viewed), expected, atol=1e-5, rtol=1e-4)


def test_behaviours_matter_unless_they_are_all_one(context, histories):
    swapped = replace(histories, behaviours=torch.where(histories.mask, 4 - histories.behaviours, 0))
    full, alike = build(context), build(context, behaviours="one")
    assert not torch.allclose(scores(full, swapped), scores(full, histories))
    assert torch.equal(scores(alike, swapped), scores(alike, histories))


def test_each_behaviour_enters_by_edges_and_by_what_it_sums_up(context, histories):
    """Without the edges' types and the current behaviour's vector, the kinds still part the long-term preference."""
    model = build(context)
    with torch.no_grad():
        model.steps[0].relations.zero_()
        model.kind_embedding.weight.zero_()
    swapped = replace(histories, behaviours=torch.where(histories.mask, histories.behaviours % 3 + 1, 0))
    pooled = replace(swapped, behaviours=torch.where(histories.mask, 1, 0))
    # The three sums only change their names, and nothing in the crossing tells one name from another.
    torch.testing.assert_close(scores(model, swapped), scores(model, histories), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(scores(model, pooled), scores(model, histories))


def test_crossing_changes_the_score_and_is_what_the_head_says(context, histories):
    crossed, plain = build(context), build(context, crossing=False)
    own = plain.state_dict()
    shared = {k: v for k, v in crossed.state_dict().items() if k in own and v.shape == own[k].shape}
    own.update(shared)
    own["crossing.merge.weight"] = crossed.crossing.merge.weight[:, : 2 * 12].detach()
    plain.load_state_dict(own)
    assert not torch.allclose(scores(plain, histories), scores(crossed, histories))

    generator = torch.Generator().manual_seed(1)
    c, g = torch.randn(2, 12, generator=generator), torch.randn(2, 3, 12, generator=generator)
    g[1, 2] = 0.0
    present = torch.tensor([[True, True, True], [True, True, False]])
    with torch.no_grad():
        got = crossed.crossing(c, g, present)
        for row, kinds in enumerate(([0, 1, 2], [0, 1])):
            part = crossed.crossing
            logits = torch.stack([part.weigh(part.compare(torch.cat([c[row], g[row, b]])).tanh())[0] for b in kinds])
            mixed = (logits.softmax(0)[:, None] * g[row, kinds]).sum(0)
            pairs = [g[row, a] * g[row, b] for a in kinds for b in kinds if a < b]
            torch.testing.assert_close(got[row], part.merge(torch.cat([c[row], mixed, torch.stack(pairs).sum(0)])))
        mean = torch.stack([g[0].mean(0), g[1, :2].mean(0)])
        torch.testing.assert_close(plain.crossing(c, g, present), plain.crossing.merge(torch.cat([c, mean], 1)))


@pytest.mark.parametrize(
    "keys", [{}, {"crossing": False}, {"behaviours": "one"}, {"n_steps": 2}, {"contrast_weight": 0.1}], ids=str
)
def test_every_relation_and_everything_else_gets_a_gradient(context, batch, keys):
    model = build(context, **keys).train()
    model.training_loss(batch).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    for step in model.steps:
        assert step.relations.grad.flatten(1).any(1).all()


def test_more_room_for_pads_changes_no_state(context, batch):
    model = build(context)
    wider = {name: F.pad(getattr(batch, name), (0, 4)) for name in ("items", "timestamps", "behaviours")}
    with torch.no_grad():
        for wide, narrow in zip(model.hidden_states(replace(batch, **wider)), model.hidden_states(batch), strict=True):
            torch.testing.assert_close(wide[:, : narrow.shape[1]], narrow, atol=1e-6, rtol=1e-5)
            assert not wide[:, narrow.shape[1] :].any()


def test_the_contrastive_term_is_added_with_its_weight(context, batch):
    plain, contrastive = build(context), build(context, contrast_weight=0.5)
    contrastive.load_stored_state(plain.stored_state())
    torch.manual_seed(3)
    term = contrastive.contrast(batch.items, contrastive.item_vectors())
    torch.manual_seed(3)
    torch.testing.assert_close(contrastive.training_loss(batch), plain.training_loss(batch) + 0.5 * term)
    assert term > 0


def test_the_table_of_a_model_knows_only_training_pairs(context, tiny_data):
    model = build(context, contrast_weight=0.1, contrast_min_sessions=1, contrast_neighbours=60)
    user, item, _ = context.train.flat()
    allowed = {
        (a, b)
        for k in (1, 2, 3)
        for u, v, a, b in zip(user[:-k], user[k:], item[:-k].tolist(), item[k:].tolist(), strict=True)
        if u == v and a != b
    }
    allowed |= {(b, a) for a, b in allowed}
    assert {(a, b) for a, row in enumerate(model.contrast.table.tolist()) for b in row if b} == allowed
    everything = tiny_data.items
    of_test = {(int(everything[e - 2]), int(everything[e - 1])) for e in tiny_data.offsets[1:]}
    assert of_test - allowed, "the last transitions of some sessions occur nowhere in training, and are not there"


def test_a_stored_run_needs_no_training_data(context, histories, tmp_path):
    model = build(context, contrast_weight=0.1)
    weights.save_weights(model, tmp_path / "weights.safetensors")
    torch.manual_seed(9)
    fresh = HICG(model.config, replace(context, train=None))
    weights.load_weights(fresh, tmp_path / "weights.safetensors")
    assert torch.equal(scores(fresh.eval(), histories), scores(model, histories))


def test_kinds_are_the_behaviours_of_training(training):
    assert kinds_of_behaviours(training(1, 2, 2, 3), "all").tolist() == [1, 0, 1, 1]  # 3 is seen in the last event only
    assert kinds_of_behaviours(training(3, 1, 3, 2, 1), "all").tolist() == [2, 0, 1, 2]
    assert kinds_of_behaviours(training(0, 3, 0, 1), "all").tolist() == [0, 0, 0, 0]
    assert kinds_of_behaviours(training(1, 2, 3, 1), "one").tolist() == [0, 0, 0, 0]


def test_an_unknown_behaviour_counts_as_the_commonest(context, histories):
    model = build(context)
    usual = int((model.kind_of[1:] == model.kind_of[0]).nonzero()[0]) + 1
    some = replace(histories, behaviours=histories.behaviours.clone())
    some.behaviours[:, 0] = usual
    for unknown in (0, 99):
        other = replace(some, behaviours=some.behaviours.clone())
        other.behaviours[:, 0] = unknown
        assert torch.equal(scores(model, other), scores(model, some))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"behaviours": "al"}, r"unknown model\.behaviours 'al'; .*all"),
        ({"n_steps": 0}, r"model\.n_steps must be at least 1"),
        ({"dropout": 1.0}, r"model\.dropout"),
        ({"contrast_weight": -1.0}, r"model\.contrast_weight must be a number at least 0"),
        ({"contrast_temperature": 0.0}, r"model\.contrast_temperature must be a number above 0"),
        ({"contrast_min_sessions": 0}, r"model\.contrast_min_sessions must be at least 1"),
    ],
)
def test_wrong_keys_are_refused(context, keys, message):
    with pytest.raises(UserError, match=message):
        build(context, **keys)


def test_events_without_behaviours_are_refused(context, histories, training_of):
    with pytest.raises(UserError, match=r"needs data that have them"):
        build(context).score(replace(histories, behaviours=None))
    with pytest.raises(UserError, match=r"'hicg' needs behaviours"):
        HICG(HICGConfig(), ModelContext(3, 2, 10, train=training_of([[1, 2], [3, 1]])))
