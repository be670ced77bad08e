"""The softmax over a wide catalogue against torch's own in float64, and the memory that it takes."""

from __future__ import annotations

import pytest
import torch

from recbench.nn.losses import catalogue, wide_softmax
from recbench.nn.losses.catalogue import full_softmax
from recbench.nn.losses.wide_softmax import WideSoftmax

N_ITEMS, WIDTH, POSITIONS = 50, 12, 33


@pytest.fixture
def problem():
    """(hidden [N, D], table [V, D], targets [N]) in float64; targets lie in all blocks of items, the first and the last item among them."""
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(POSITIONS, WIDTH, generator=generator, dtype=torch.float64)
    table = torch.randn(N_ITEMS + 1, WIDTH, generator=generator, dtype=torch.float64)
    targets = torch.randint(1, N_ITEMS + 1, (POSITIONS,), generator=generator)
    targets[0], targets[1] = 1, N_ITEMS
    return hidden, table, targets


@pytest.fixture
def items_at_once(monkeypatch):
    """items_at_once(n): blocks of n items, for tables however small."""

    def chosen(n):
        monkeypatch.setattr(catalogue, "WIDE_TABLE", 0)
        monkeypatch.setattr(catalogue, "CHUNK_VALUES", n * POSITIONS)
        monkeypatch.setattr(wide_softmax, "LEAST_ITEMS", 1)

    return chosen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [2, 7, N_ITEMS + 1, 1000])
def test_value_and_gradients_are_those_of_torch(problem, items_at_once, dtype, n, our_softmax, exact_softmax):
    items_at_once(n)
    hidden, table, targets = problem
    found = our_softmax(hidden.to(dtype), table.to(dtype), targets)
    for mine, true in zip(found, exact_softmax(*problem), strict=True):
        torch.testing.assert_close(mine.double(), true, atol=2e-6, rtol=2e-5)
    assert found[1].dtype == found[2].dtype == dtype


def test_bfloat16_stays_within_its_rounding(problem, items_at_once, our_softmax, exact_softmax):
    items_at_once(9)
    hidden, table, targets = problem
    loss, *found = our_softmax(hidden.float() / 4, table.float() / 4, targets, bfloat16=True)
    value, *true = exact_softmax(hidden / 4, table / 4, targets)
    assert loss.item() == pytest.approx(value.item(), abs=0.01)
    for mine, expected in zip(found, true, strict=True):
        assert mine.dtype == torch.float32
        assert (mine.double() - expected).norm() < 0.02 * expected.norm()


def test_states_of_a_narrower_type_get_gradients_of_theirs(problem, items_at_once, our_softmax):
    items_at_once(9)
    hidden, table, targets = problem
    _, by_hidden, by_table = our_softmax(hidden.bfloat16(), table.float(), targets)
    assert (by_hidden.dtype, by_table.dtype) == (torch.bfloat16, torch.float32)


def test_large_logits_overflow_nothing(problem, items_at_once, our_softmax, exact_softmax):
    items_at_once(7)
    hidden, table, targets = problem
    for mine, true in zip(
        our_softmax(hidden * 40, table, targets), exact_softmax(hidden * 40, table, targets), strict=True
    ):
        torch.testing.assert_close(mine, true)


def test_the_gradient_scales_with_what_comes_after_and_is_taken_once(problem, items_at_once):
    items_at_once(7)
    hidden, table, targets = problem
    once, thrice = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    full_softmax(once, table, targets).backward()
    loss = 3 * full_softmax(thrice, table, targets)
    loss.backward(retain_graph=True)
    torch.testing.assert_close(thrice.grad, 3 * once.grad)
    with pytest.raises(RuntimeError, match="once only"):
        loss.backward()


def test_no_tensor_is_larger_than_a_block_or_the_table(largest_made):
    n, items, width = 64, 20_000, 4
    hidden, table = torch.randn(n, width, requires_grad=True), torch.randn(items, width, requires_grad=True)
    with largest_made() as largest:
        WideSoftmax.apply(hidden, table, torch.randint(1, items, (n,)), False, 1 << 17).backward()
    assert 1 << 16 < largest.values <= 1 << 17  # the whole product would have 1.28 million


def test_tables_up_to_the_bound_are_cut_by_positions(problem, monkeypatch):
    def never(*_):
        raise AssertionError("cut by items")

    monkeypatch.setattr(catalogue.WideSoftmax, "apply", never)
    full_softmax(*problem)
    monkeypatch.setattr(catalogue, "WIDE_TABLE", N_ITEMS)
    with pytest.raises(AssertionError, match="cut by items"):
        full_softmax(*problem)
