import logging

import pytest
import torch
from torch import nn

from recbench.nn import bfloat16
from recbench.nn.bfloat16 import as_float32, has_fast_bfloat16, is_emulated, product


@pytest.fixture
def without(monkeypatch):
    """A processor that has no products in bfloat16."""
    monkeypatch.setattr(bfloat16, "_has_bfloat16", lambda device: False)


@pytest.fixture
def having(monkeypatch):
    monkeypatch.setattr(bfloat16, "_has_bfloat16", lambda device: True)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


def test_only_bfloat16_on_a_processor_without_it_is_emulated(without):
    assert is_emulated("cpu", torch.bfloat16)
    assert not is_emulated("cpu", torch.float32)
    assert not is_emulated("cuda", torch.bfloat16)


def test_a_processor_with_it_emulates_nothing_unless_it_is_kept_to_older_instructions(having, monkeypatch):
    assert not is_emulated("cpu", torch.bfloat16)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert is_emulated("cpu", torch.bfloat16)


def test_no_other_device_is_said_to_be_fast(monkeypatch):
    assert has_fast_bfloat16("mps") is False


def test_a_product_through_float32_is_rounded_once_and_has_its_gradients(without):
    left = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    right = torch.randn(7, 3, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_()
    found = product(left, right)
    assert found.dtype == torch.bfloat16
    exact = left.double() @ right.double()
    assert torch.equal(found, exact.float().bfloat16())
    found.sum().backward()
    torch.testing.assert_close(left.grad, right.sum(1).expand(5, 7), rtol=0.02, atol=0.02)
    assert right.grad.dtype == torch.bfloat16


def test_weights_as_float32_are_the_same_numbers_and_it_is_said_once(caplog):
    bfloat16._say.cache_clear()
    layer = nn.Linear(4, 3).bfloat16()
    before = layer.weight.detach().clone()
    with caplog.at_level(logging.INFO):
        as_float32(layer)
        as_float32(nn.Linear(4, 3).bfloat16())
    assert layer.weight.dtype == torch.float32
    assert torch.equal(layer.weight, before.float())
    assert len([line for line in caplog.messages if "no products in bfloat16" in line]) == 1
