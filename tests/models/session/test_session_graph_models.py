"""What is particular to the models on session graphs; what they share with all models is in test_contract."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.batches import prefixes
from recbench.models.base import ModelContext
from recbench.models.registry import lookup
from recbench.nn import prefix_rows

NAMES = ("srgnn", "gcsan", "tagnn", "gcegnn")
every_model = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def build():
    def make(name, train=None, **keys):
        entry = lookup(name)
        torch.manual_seed(0)
        config = entry.config(**{"hidden_size": 8, "dropout": 0.0, **keys})
        return entry.model(config, ModelContext(9, 4, 10, train=train)).eval()

    return make


@pytest.fixture
def batch(histories):
    made = histories([1, 2, 1, 3], [4, 4, 5], [6], [7, 8, 7, 8, 9])
    made.targets = torch.tensor([[2, 1, 3, 5, 0], [4, 5, 6, 0, 0], [7, 0, 0, 0, 0], [8, 7, 8, 9, 1]])
    return made


@every_model
def test_training_equals_that_on_one_row_a_prefix(build, batch, name):
    model = build(name)
    rows = prefixes(batch)
    targets = batch.targets[batch.mask]
    logits = model.score(rows)[:, 1:]
    torch.testing.assert_close(model.training_loss(batch), torch.nn.functional.cross_entropy(logits, targets - 1))


@every_model
def test_pieces_of_a_batch_change_nothing(build, batch, name, monkeypatch):
    model = build(name)
    whole = model.training_loss(batch)
    monkeypatch.setattr(prefix_rows, "PIECE_SLOTS", {"cpu": 10})
    torch.testing.assert_close(model.training_loss(batch), whole)


@pytest.mark.parametrize("name", ["srgnn", "gcsan", "tagnn"])
def test_counted_edges_differ_where_an_edge_is_walked_twice_and_only_there(build, histories, name):
    once, twice = histories([1, 2, 3, 1, 4]), histories([1, 2, 1, 2, 1, 3])
    binary, counted = build(name), build(name, edges="count")
    assert torch.equal(binary.score(once), counted.score(once))
    assert not torch.allclose(binary.score(twice), counted.score(twice))


@every_model
def test_the_order_of_events_matters(build, histories, name):
    model = build(name)
    assert not torch.allclose(model.score(histories([1, 2, 3, 4])), model.score(histories([2, 1, 3, 4])))


@every_model
def test_published_sizes_are_the_defaults(name):
    config = lookup(name).config()
    assert config.hidden_size == (120 if name == "gcsan" else 100)


def test_gcsan_with_the_whole_weight_on_attention_forgets_what_stood_before(build, histories):
    model = build("gcsan", attention_weight=1.0)
    *_, last_block, session = (*model.last_states(histories([1, 2])),)
    assert last_block.shape == session.shape
    with pytest.raises(UserError, match="attention_weight"):
        build("gcsan", attention_weight=0.0)


def test_gcegnn_hears_training_sessions(build, training_of, histories):
    near, far = training_of([[1, 2], [3, 4]], n_items=9), training_of([[1, 3], [2, 4]], n_items=9)
    question = histories([1, 4])
    assert not torch.allclose(build("gcegnn", near).score(question), build("gcegnn", far).score(question))


def test_gcegnn_counts_positions_from_the_end(build, histories):
    model = build("gcegnn")
    with torch.no_grad():
        before = model.score(histories([1, 2, 3]))
        model.readout.position_embedding.weight[3:] += 1.0
        assert torch.equal(model.score(histories([1, 2, 3])), before)
        assert not torch.allclose(model.score(histories([5, 1, 2, 3])), build("gcegnn").score(histories([5, 1, 2, 3])))


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("srgnn", {"edges": "typed"}, "unknown model.edges 'typed'"),
        ("tagnn", {"n_steps": 0}, "model.n_steps must be at least 1"),
        ("gcsan", {"dropout": 1.0}, "model.dropout"),
        ("gcegnn", {"hops": 0}, "model.hops must be at least 1"),
        ("gcegnn", {"local_dropout": 1.5}, "model.local_dropout"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(build, name, keys, message):
    with pytest.raises(UserError, match=message):
        build(name, **keys)


@every_model
def test_states_at_pads_are_zero(build, batch, name):
    for states in build(name).hidden_states(replace(batch, targets=None)):
        assert not states[~batch.mask].any()
