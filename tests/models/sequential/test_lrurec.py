"""What is particular to LRURec: everything from the past comes through one recurrence, which can be run event by event."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from recbench.models.base import ModelContext
from recbench.models.sequential import lrurec
from recbench.models.sequential.lrurec import LRURec, LRURecConfig
from recbench.nn.recurrent.linear_recurrence import step_by_step

CONTEXT = ModelContext(n_items=30, n_users=5, max_length=20)
SMALL = {"hidden_size": 8, "feedforward_size": 16, "dropout": 0.0}


def model(**keys):
    torch.manual_seed(0)
    made = LRURec(LRURecConfig(**{**SMALL, **keys}), CONTEXT).eval()
    with torch.no_grad():
        made.item_bias.normal_()
    return made


def test_scores_are_those_of_the_recurrence_run_event_by_event(histories, monkeypatch):
    batch, made = histories(list(range(1, 14)), [4, 5, 6, 7, 8], [9]), model()
    whole = made.score(batch)
    monkeypatch.setattr("recbench.nn.recurrent.linear_recurrence.doubling_scan", step_by_step)
    torch.testing.assert_close(made.score(batch), whole)


def test_the_bias_of_an_item_is_added_to_its_score(histories):
    batch, made = histories([1, 2, 3], [4]), model()
    plain = made.hidden_states(batch)[-1][[0, 1], [2, 0]] @ made.item_embedding.weight.T
    torch.testing.assert_close(made.score(batch), plain + made.item_bias)
    assert made.queries(torch.ones(2, 3, 8)).shape == (2, 3, 9)


def test_a_layer_adds_then_norms(histories):
    layer = lrurec.LRULayer(8, 16, 0.0).eval()
    x = torch.randn(2, 5, 8)
    y = layer.recurrence_norm(x + layer.recurrence(x))
    inner = layer.expand(y)
    gelu = 0.5 * inner * (1 + torch.erf(inner / 2**0.5))
    torch.testing.assert_close(layer(x), layer.feedforward_norm(y + layer.contract(gelu)))


def test_only_the_recurrence_links_positions(histories, monkeypatch):
    """With a scan that forgets at once, the last event alone decides."""
    batch, other, made = histories([1, 2, 3]), histories([7, 8, 3]), model()
    assert not torch.allclose(made.score(batch), made.score(other))
    monkeypatch.setattr("recbench.nn.recurrent.linear_recurrence.doubling_scan", lambda inputs, decay: inputs)
    torch.testing.assert_close(made.score(batch), made.score(other))
    assert F.mse_loss(made.score(batch), made.score(histories([1, 2, 4]))) > 0
