"""Counts worked out by hand, and torch's own counter as the judge."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from recbench.evaluation.cost.flops import count_flops, count_training_flops


def test_a_product_of_matrices_is_two_operations_a_term():
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    assert count_flops(lambda: a @ b) == 2 * 3 * 5 * 7
    assert count_flops(lambda: nn.Linear(5, 7)(a)) == 2 * 3 * 5 * 7


def test_what_is_no_dense_product_is_not_seen():
    table, x = nn.Embedding(9, 4), torch.randn(6, 4)
    assert count_flops(lambda: (table(torch.tensor([1, 2])), x.softmax(1), x.sort(), x + x)) == 0


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), (3, 5, 16)),
        (nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU(), nn.Conv1d(8, 2, 1)), (2, 4, 9)),
        (nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1)), (7, 4)),
    ],
)
def test_a_training_step_counts_as_torch_counts_it(module, shape):
    x = torch.randn(shape)
    with FlopCounterMode(display=False) as judge, sdpa_kernel(SDPBackend.MATH):
        module.train()(x).sum().backward()
    module.zero_grad()
    assert count_training_flops(module, lambda: module(x).sum()) == judge.get_total_flops() > 0


def test_attention_counts_alike_whatever_kernel_a_device_would_take():
    q = torch.randn(1, 2, 6, 8)
    counted = count_flops(lambda: nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True))
    assert counted == 2 * (2 * 2 * 6 * 6 * 8)  # two products of two heads


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).eval()
    model[0].weight.grad = torch.ones(4, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(1)
    state = torch.get_rng_state()
    count_training_flops(model, lambda: model(torch.randn(8, 4)).sum())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model[0].weight.grad, torch.ones(4, 4))
    assert model[0].bias.grad is None


def test_the_model_is_left_as_it_was_by_a_loss_that_fails():
    model = nn.Linear(2, 2).eval()
    with pytest.raises(ZeroDivisionError):
        count_training_flops(model, lambda: 1 / 0)
    assert not model.training
