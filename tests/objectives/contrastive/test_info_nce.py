"""InfoNCE against a loop, and the few values that are known by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbench.objectives.contrastive.info_nce import info_nce, positives_and_negatives


def by_loop(first, second, temperature):
    views = [*first.tolist(), *second.tolist()]
    rows, losses = len(first), []
    for i, view in enumerate(views):
        score = [sum(a * b for a, b in zip(view, other, strict=True)) / temperature for other in views]
        partner = (i + rows) % (2 * rows)
        total = math.fsum(math.exp(score[j] - score[partner]) for j in range(2 * rows) if j != i)
        losses.append(math.log(total))
    return sum(losses) / len(losses)


@given(st.integers(1, 6), st.integers(1, 5), st.sampled_from([0.2, 1.0, 3.0]), st.integers(0, 10_000))
def test_it_is_the_loop(rows, width, temperature, seed):
    torch.manual_seed(seed)
    first, second = torch.randn(2, rows, width, dtype=torch.float64)
    assert info_nce(first, second, temperature).item() == pytest.approx(by_loop(first, second, temperature), abs=1e-10)


def test_views_that_say_nothing_stand_at_chance():
    assert info_nce(torch.zeros(5, 3), torch.zeros(5, 3)).item() == pytest.approx(math.log(9))


def test_views_that_say_all_cost_nothing():
    apart = 100.0 * torch.eye(4)
    assert info_nce(apart, apart).item() == pytest.approx(0.0, abs=1e-6)


def test_a_single_row_has_nothing_to_learn_from():
    first, second = torch.randn(2, 1, 4, requires_grad=True)
    loss = info_nce(first, second)
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, first)[0].any()


def test_the_two_sides_are_alike():
    first, second = torch.randn(2, 5, 4, dtype=torch.float64)
    assert info_nce(first, second).item() == pytest.approx(info_nce(second, first).item())


def test_gradients_are_those_of_the_formula():
    first, second = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, 0.7), (first, second))


def test_partners_and_negatives_are_told_apart():
    first, second = torch.randn(2, 3, 4)
    positive, negative = positives_and_negatives(first, second, 0.5)
    views = torch.cat([first, second])
    assert negative.shape == (6, 4)
    for i in range(6):
        partner = (i + 3) % 6
        torch.testing.assert_close(positive[i], views[i] @ views[partner] / 0.5)
        others = torch.stack([views[i] @ views[j] / 0.5 for j in range(6) if j not in (i, partner)])
        torch.testing.assert_close(negative[i], others)
