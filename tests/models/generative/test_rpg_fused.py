"""RPG's quick way against the long one: every position through every layer, and one softmax for all levels."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.generative.rpg import RPG, RPGConfig

N_ITEMS, LENGTH, SIZES = 9, 6, (3, 5, 4)


@pytest.fixture(params=[1, 2])
def model(request):
    torch.manual_seed(0)
    codes = torch.stack([torch.randint(size, (N_ITEMS + 1,)) for size in SIZES], dim=1)
    codes[0] = -1
    tokenizer = SimpleNamespace(codes=codes, sizes=torch.tensor(SIZES))
    config = RPGConfig(hidden_size=16, n_layers=request.param, n_heads=2, feedforward_size=24, dropout=0.0)
    model = RPG(config, ModelContext(N_ITEMS, 4, LENGTH, dependencies={"tokenizer": tokenizer}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def batch() -> Batch:
    lengths = torch.tensor([6, 1, 4])
    items = torch.randint(1, N_ITEMS + 1, (3, LENGTH)) * (torch.arange(LENGTH) < lengths[:, None])
    targets = torch.randint(1, N_ITEMS + 1, items.shape) * (items > 0)
    return Batch(items, torch.zeros_like(items), lengths, torch.arange(3), targets=targets)


def log_probs(model, states):
    """[M, N, K] as RPG computed them before."""
    sizes = model.sizes
    code = torch.arange(int(sizes.max()))
    real = code < sizes[:, None]
    vectors = model.token_embedding((sizes.cumsum(0) - sizes)[:, None] + torch.where(real, code, 0))
    inner = torch.baddbmm(model.head_bias, states.expand(len(sizes), -1, -1), model.head_weight)
    logits = F.normalize(states + F.silu(inner), dim=-1) @ F.normalize(vectors, dim=-1).transpose(1, 2)
    return (logits / model.config.temperature).masked_fill(~real[:, None], -torch.inf).log_softmax(dim=-1)


def test_scores_are_those_of_every_position_in_every_layer(model):
    asked = batch()
    model.eval()
    with torch.no_grad():
        last = model.hidden_states(asked)[-1][torch.arange(3), asked.lengths - 1]
        table = log_probs(model, last)
        expected = torch.stack([table[j][:, model.codes[1:, j]] for j in range(len(SIZES))]).mean(0)
        scores = model.score(asked)
    torch.testing.assert_close(model.last_state(asked), last)
    torch.testing.assert_close(scores[:, 1:], expected)
    assert (scores[:, 0] == -torch.inf).all()


def test_a_step_of_training_has_the_same_loss_and_gradients(model):
    asked = batch()
    model.train()
    states = model.hidden_states(asked)[-1][asked.mask]
    codes = model.codes[asked.targets[asked.mask]]
    expected = -log_probs(model, states).gather(2, codes.T[..., None]).mean()
    names, parameters = zip(*model.named_parameters(), strict=True)
    wanted = torch.autograd.grad(expected, parameters)
    loss = model.training_loss(asked)
    torch.testing.assert_close(loss, expected)
    for name, own, other in zip(names, torch.autograd.grad(loss, parameters), wanted, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
