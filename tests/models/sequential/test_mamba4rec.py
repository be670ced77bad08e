"""What is particular to Mamba4Rec."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from recbench.core.errors import UserError
from recbench.models.base import ModelContext, count_parameters
from recbench.models.sequential.mamba4rec import Mamba4Rec, Mamba4RecConfig

CONTEXT = ModelContext(n_items=30, n_users=5, max_length=10)


def build(**keys):
    torch.manual_seed(0)
    return Mamba4Rec(Mamba4RecConfig(**{"hidden_size": 16, "state_size": 4, **keys}), CONTEXT).eval()


def test_there_is_a_state_after_the_input_and_after_each_layer(histories):
    model = build(n_layers=3)
    batch = histories([3, 4, 5], [7])
    states = model.hidden_states(batch)
    assert [tuple(state.shape) for state in states] == [(2, 3, 16)] * 4
    torch.testing.assert_close(model.score(batch), states[-1][[0, 1], [2, 0]] @ model.item_vectors().T)


@pytest.mark.parametrize(("n_layers", "residual"), [(1, False), (2, True)])
def test_a_single_layer_has_no_residual_around_its_mamba(n_layers, residual):
    layer = build(n_layers=n_layers).layers[0]
    x = torch.randn(2, 5, 16)
    mixed = layer.mixer(x) + (x if residual else 0)
    h = F.layer_norm(mixed, (16,), eps=1e-12)
    inner = layer.feedforward.contract(F.gelu(layer.feedforward.expand(h)))
    torch.testing.assert_close(layer(x), F.layer_norm(h + inner, (16,), eps=1e-12), rtol=1e-4, atol=1e-5)


def test_steps_start_where_the_released_code_starts_them():
    model = build()
    step = model.layers[0].mixer.step
    assert not step.bias.any()
    assert step.weight.std().item() == pytest.approx(0.02, rel=0.4)
    assert not model.item_embedding.weight[0].any()


def test_as_many_parameters_as_the_published_layer():
    """Counted by hand for MovieLens-1M: items and norm; mamba-ssm at d 64, N 32, 4 taps, E 128, rank 4; norm; feed-forward and norm."""
    model = Mamba4Rec(Mamba4RecConfig(), ModelContext(n_items=3416, n_users=1, max_length=200))
    mamba = 64 * 256 + 128 * 4 + 128 + 128 * (4 + 2 * 32) + 4 * 128 + 128 + 128 * 32 + 128 + 128 * 64
    feedforward = 64 * 256 + 256 + 256 * 64 + 64 + 128
    assert count_parameters(model)["total"] == 3417 * 64 + 128 + mamba + 128 + feedforward


@pytest.mark.parametrize("key", ["hidden_size", "n_layers", "state_size", "conv_taps", "expand"])
def test_sizes_below_one_are_refused(key):
    with pytest.raises(UserError, match=rf"model.{key} must be at least 1, not 0"):
        build(**{key: 0})
