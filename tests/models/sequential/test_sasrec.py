"""What is particular to SASRec."""

from __future__ import annotations

import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.sequential.sasrec import BLOCKS, SASRec, SASRecConfig

CONTEXT = ModelContext(n_items=30, n_users=5, max_length=10)


def test_there_is_a_state_after_the_input_and_after_each_block():
    model = SASRec(SASRecConfig(hidden_size=8, n_layers=3), CONTEXT).eval()
    items = torch.tensor([[3, 4, 5, 0], [7, 0, 0, 0]])
    batch = Batch(items, torch.zeros_like(items), torch.tensor([3, 1]), torch.tensor([0, 1]))
    states = model.hidden_states(batch)
    assert [tuple(state.shape) for state in states] == [(2, 4, 8)] * 4
    torch.testing.assert_close(model.score(batch), states[-1][[0, 1], [2, 0]] @ model.item_vectors().T)


def test_the_pad_starts_as_zero():
    model = SASRec(SASRecConfig(hidden_size=8), CONTEXT)
    assert not model.item_embedding.weight[0].any()
    assert model.item_embedding.weight[1:].std().item() == pytest.approx(0.02, rel=0.3)


def test_heads_must_divide_the_width():
    with pytest.raises(UserError, match=r"model.hidden_size=10 is not a multiple of model.n_heads=3"):
        SASRec(SASRecConfig(hidden_size=10, n_heads=3), CONTEXT)


@pytest.mark.parametrize("key", ["hidden_size", "n_layers", "n_heads", "feedforward_size"])
def test_sizes_below_one_are_refused(key):
    with pytest.raises(UserError, match=rf"model.{key} must be at least 1, not 0"):
        SASRec(SASRecConfig(**{key: 0}), CONTEXT)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("n_layers", [1, 3])
def test_the_states_that_rank_are_those_at_the_last_event(block, n_layers):
    """Of the topmost layer only they are computed; histories of all lengths, of which one fills its row."""
    torch.manual_seed(0)
    model = SASRec(SASRecConfig(hidden_size=8, n_layers=n_layers, block=block), CONTEXT).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    lengths = torch.tensor([1, 4, 2, 6])
    items = torch.randint(1, 31, (4, 6)).where(torch.arange(6) < lengths[:, None], 0)
    batch = Batch(items, torch.zeros_like(items), lengths, torch.arange(4))
    wanted = [states[torch.arange(4), lengths - 1] for states in model.hidden_states(batch)]
    found = model.last_states(batch)
    assert len(found) == n_layers + 1
    for state, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(state, right)


def test_positions_start_at_the_deviation_that_is_asked_for_and_all_else_as_before():
    usual, wide = (
        (torch.manual_seed(3), SASRec(SASRecConfig(**keys), ModelContext(200, 5, 200)))[1].state_dict()
        for keys in ({}, {"position_deviation": 0.09})
    )
    assert wide["position_embedding.weight"].std().item() == pytest.approx(0.09, rel=0.03)
    for name, value in usual.items():
        torch.testing.assert_close(wide[name], value * (4.5 if name == "position_embedding.weight" else 1.0))
    with pytest.raises(UserError, match="position_deviation=-1"):
        SASRec(SASRecConfig(position_deviation=-1.0), ModelContext(20, 5, 20))
