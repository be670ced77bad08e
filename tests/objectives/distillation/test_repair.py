"""The two-way repair of a list: the formula by hand, no cost where both lists hold the same, and what it moves."""

import math

import pytest
import torch

from recbench.objectives.distillation.repair import own_lists, repair_loss


def test_the_loss_is_the_formula():
    queries = torch.tensor([[1.0], [1.0]], dtype=torch.float64)
    vectors = torch.tensor([[0.0], [4.0], [3.0], [2.0], [1.0]], dtype=torch.float64)
    best = torch.tensor([[1, 4], [2, 1]])  # the student's own list is 1, 2 for both
    found = repair_loss(queries, vectors, best)
    assert found.item() == pytest.approx(0.5 * math.log(1 + math.exp(3.0 - 1.0)))


def test_barred_items_are_in_no_list_of_the_student():
    queries, vectors = torch.ones(1, 1), torch.arange(5.0)[:, None]
    assert own_lists(queries, vectors, 2).tolist() == [[4, 3]]
    assert own_lists(queries, vectors, 2, torch.tensor([[4, 0]])).tolist() == [[3, 2]]


def test_missing_items_rise_and_wrong_ones_fall():
    vectors = torch.tensor([[0.0], [4.0], [3.0], [2.0], [1.0]]).requires_grad_()
    repair_loss(torch.ones(1, 1), vectors, torch.tensor([[1, 4]])).backward()
    assert vectors.grad is not None
    gradient = vectors.grad[:, 0].tolist()
    assert gradient[2] > 0 > gradient[4]
    assert gradient[1] == gradient[3] == 0
