"""The loss of pairs and its penalty against what autograd makes of the plain formulas."""

import pytest
import torch
import torch.nn.functional as F

from recbench.nn.losses.pairs import pair_loss, weighted_squares


@pytest.mark.parametrize("n", [1, 3])
def test_the_pair_loss_and_both_gradients_are_those_of_the_plain_formula(n):
    generator = torch.Generator().manual_seed(n)
    users, items = (torch.randn(rows, 5, generator=generator, dtype=torch.float64) for rows in (4, 7))
    user, item = torch.randint(4, (20,), generator=generator), torch.randint(7, (20,), generator=generator)
    negative = torch.randint(7, (20, n), generator=generator)
    found, wanted = [], []
    for loss, gradients in ((pair_loss, found), (plain, wanted)):
        tables = users.clone().requires_grad_(), items.clone().requires_grad_()
        value = 0.3 * loss(*tables, user, item, negative)
        value.backward()
        gradients.extend([value.detach(), *(table.grad for table in tables)])
    for own, reference in zip(found, wanted, strict=True):
        torch.testing.assert_close(own, reference)


def plain(users, items, user, item, negative):
    own = users[user]
    drawn = (items[negative] * own[:, None]).sum(-1)
    return F.softplus(drawn - (items[item] * own).sum(-1, keepdim=True)).mean()


def test_weighted_squares_are_the_squares_of_the_rows_as_often_as_they_are_drawn():
    table = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([0, 2, 2, 5, 2])
    plain_form = table[rows].square().sum()
    (wanted,) = torch.autograd.grad(plain_form, table)
    own = weighted_squares(table, torch.bincount(rows, minlength=6).double())
    (found,) = torch.autograd.grad(own, table)
    torch.testing.assert_close(own, plain_form)
    torch.testing.assert_close(found, wanted)
