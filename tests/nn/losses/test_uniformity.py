"""The uniformity of unit vectors against its definition, pair by pair."""

from __future__ import annotations

import pytest
import torch

from recbench.nn.losses import uniformity as under_test


@pytest.mark.parametrize("chunk", [1, 20, 1 << 20])
@pytest.mark.parametrize("n", [2, 7, 12])
def test_value_and_gradient_are_those_of_all_pairs(monkeypatch, n, chunk):
    monkeypatch.setattr(under_test, "PAIRS_AT_ONCE", chunk)
    raw = torch.randn(n, 5, generator=torch.Generator().manual_seed(n))
    found, wanted = (raw.clone().requires_grad_(True) for _ in range(2))
    value = under_test.uniformity(torch.nn.functional.normalize(found, dim=1))
    pairs = torch.pdist(torch.nn.functional.normalize(wanted, dim=1))
    expected = pairs.square().mul(-2).exp().mean().log()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    (3 * value).backward()
    (3 * expected).backward()
    torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-4, atol=1e-5)


def test_vectors_that_are_all_alike_are_as_uneven_as_can_be():
    assert float(under_test.uniformity(torch.ones(6, 1))) == pytest.approx(0.0)
