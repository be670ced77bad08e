"""The rewrite that needs [B, V, L] only, against the definition with a vector for every candidate, values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from recbench.nn.graph import target_attention
from recbench.nn.graph.target_attention import Sessions, target_scores, target_softmax

B, L, V, D = 5, 4, 11, 3


@pytest.fixture
def parts():
    torch.manual_seed(0)
    made = [torch.randn(B, D), torch.randn(B, L, D), torch.randn(B, L, D), torch.randn(V, D)]
    visits = torch.tensor([[1, 0, 0, 0], [2, 0, 1, 0], [1, 1, 1, 1], [3, 0, 0, 0], [1, 2, 0, 0]])
    return [part.double().requires_grad_() for part in made], visits.double().log(), torch.tensor([1, 10, 4, 4, 7])


def by_definition(vector, keys, values, table, log_weight):
    beta = (torch.einsum("vd,bld->bvl", table, keys) + log_weight[:, None]).softmax(2)
    attended = torch.einsum("bvl,bld->bvd", beta, values)
    return ((vector[:, None] + attended) * table).sum(2)


def test_scores_equal_the_definition(parts):
    (vector, keys, values, table), log_weight, _ = parts
    got = target_scores(Sessions(vector, keys, values, log_weight), table)
    torch.testing.assert_close(got, by_definition(vector, keys, values, table, log_weight))


@pytest.mark.parametrize("values_at_once", [1, 3 * L * V, 10**6])
def test_loss_and_gradients_equal_the_definition_in_pieces_of_any_size(parts, monkeypatch, values_at_once):
    monkeypatch.setattr(target_attention, "CHUNK_VALUES", values_at_once)
    made, log_weight, targets = parts
    vector, keys, values, table = (part.detach().float().requires_grad_() for part in made)
    loss = target_softmax(Sessions(vector, keys, values, log_weight.float()), table, targets)
    wanted = F.cross_entropy(by_definition(*made, log_weight)[:, 1:], targets - 1)
    torch.testing.assert_close(loss.double(), wanted, atol=1e-5, rtol=1e-5)
    (2 * loss).backward()
    (2 * wanted).backward()
    for got, right in zip((vector, keys, values, table), made, strict=True):
        torch.testing.assert_close(got.grad.double(), right.grad, atol=1e-5, rtol=1e-4)


def test_bfloat16_stays_close(parts):
    made, log_weight, targets = parts
    narrow = [part.detach().float().requires_grad_() for part in made]
    loss = target_softmax(Sessions(*narrow[:3], log_weight.float()), narrow[3], targets, bfloat16=True)
    wanted = F.cross_entropy(by_definition(*made, log_weight)[:, 1:], targets - 1)
    assert abs(loss.item() - wanted.item()) < 0.05
    loss.backward()
    assert all(part.grad.isfinite().all() for part in narrow)
