"""What a layer computes while it is exported, against what it computes otherwise."""

from __future__ import annotations

import pytest
import torch

from recbench.nn.graph.behaviour_graph import RelationStep, behaviour_graph, last_of_same_kind
from recbench.nn.graph.session_graph import first_events
from recbench.nn.recurrent.linear_recurrence import LinearRecurrence
from recbench.nn.recurrent.state_space import ssd


@pytest.fixture
def exported(monkeypatch):
    """exported(function, *arguments): its value as while a program is exported."""

    def ask(function, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_exporting", lambda: True)
            return function(*arguments)

    return ask


@pytest.mark.parametrize("length", [1, 2, 7, 16])
def test_a_complex_recurrence_in_real_numbers(exported, length):
    layer, x = LinearRecurrence(4), torch.randn(3, length, 4)
    torch.testing.assert_close(exported(layer, x), layer(x))


@pytest.mark.parametrize("length", [1, 9, 70])
def test_a_state_space_layer_without_writes_in_place(exported, length):
    x, step, b, c = (
        torch.randn(2, length, 3, 4),
        torch.rand(2, length, 3),
        torch.randn(2, length, 5),
        torch.randn(2, length, 5),
    )
    decay = -step * torch.tensor([0.1, 4.0, 40.0])
    inputs = (x.double(), step.double(), decay.double(), b.double(), c.double(), torch.randn(3).double())
    torch.testing.assert_close(exported(ssd, *inputs), ssd(*inputs, form="recurrent"))


def test_graphs_of_behaviours(exported):
    torch.manual_seed(1)
    lengths = torch.tensor([9, 1, 4])
    mask = torch.arange(9) < lengths[:, None]
    items, kinds = torch.randint(1, 5, (3, 9)) * mask, torch.randint(0, 3, (3, 9)) * mask
    assert torch.equal(exported(first_events, items)[mask], first_events(items)[mask])
    assert torch.equal(exported(last_of_same_kind, kinds, mask, 3), last_of_same_kind(kinds, mask, 3))
    layer, plain = RelationStep(4, 3), behaviour_graph(items, kinds, mask, 3)
    other = exported(behaviour_graph, items, kinds, mask, 3)
    assert torch.equal(other.item, plain.item)
    states = torch.randn(len(plain.item), 4)
    torch.testing.assert_close(exported(layer, states, other), layer(states, plain))
