"""Learned codebooks: gradients go where the formula says, dead codes come back, and a training that fails says so."""

from __future__ import annotations

import pytest
import torch

from recbench.core.errors import UserError
from recbench.nn.codes.learned_codebooks import LearnedCodebooks, MovingAverages, train_codes


def books_on(x, levels=2, size=4, beta=0.25, normalize=False, uniform=False):
    books = LearnedCodebooks(levels, size, x.shape[1], beta, normalize, uniform)
    books.seed_on(x, seed=0)
    return books


@pytest.fixture
def x():
    return torch.randn(60, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("normalize", [False, True])
def test_the_loss_is_that_of_the_formula(x, normalize):
    books = books_on(x, normalize=normalize)
    coded = books(x)
    total, expected = torch.zeros_like(x), torch.zeros(())
    residual, scale = x.clone(), torch.ones(60)
    for level in range(2):
        if normalize:
            scale = scale * residual.norm(dim=1)
            residual = residual / residual.norm(dim=1, keepdim=True)
        distances = (residual[:, None] - books.books[level]).pow(2).sum(-1)
        chosen = books.books[level][distances.argmin(1)]
        assert torch.equal(coded.codes[:, level], distances.argmin(1))
        expected = expected + 1.25 * (residual - chosen).pow(2).mean()
        total = total + scale[:, None] * chosen
        residual = residual - chosen
    torch.testing.assert_close(coded.loss, expected)
    torch.testing.assert_close(coded.vectors, total)
    codes, vectors = books.assign(x)
    assert codes.tolist() == coded.codes.tolist()
    torch.testing.assert_close(vectors, total)


def test_the_gradient_passes_straight_through_and_stops_where_it_should(x):
    x = x.requires_grad_()
    books = books_on(x.detach())
    books(x).vectors.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    assert books.books.grad is None
    x.grad = None
    books.beta = 0.0
    books(x).loss.backward()
    assert not x.grad.any()  # without commitment nothing draws the input
    assert books.books.grad.flatten(1).any(1).all()


def test_dead_codes_are_put_on_residuals_and_live_ones_stay(x):
    books = books_on(x).train()
    books.books.data[1, 3] = 1e3
    books(x)
    before = books.books.detach().clone()
    assert books.revive(x, torch.Generator().manual_seed(0)) == 1
    moved = (books.books != before).flatten(0, 1).any(1).nonzero()[:, 0].tolist()
    assert moved == [7]
    assert (books.residuals(x, 1) - books.books[1, 3]).abs().sum(1).min() < 1e-6
    books(x)
    assert books.usage[1, 3] > 0


def test_revival_knows_that_a_catalogue_cannot_use_more_codes_than_it_has_items(x):
    books = books_on(x[:3], size=8).train()
    books(x[:3])
    before = books.books.detach().clone()
    assert books.revive(x[:3], torch.Generator()) <= 2 * 3
    assert torch.equal(books.books[0], before[0])  # three items, three codes in use


@pytest.mark.parametrize("ema", [False, True])
def test_training_brings_the_codes_to_the_centres(x, ema):
    centres = 10 * torch.eye(5)[:4]
    rows = centres.repeat_interleave(50, 0) + 0.1 * torch.randn(200, 5, generator=torch.Generator().manual_seed(2))
    books = books_on(rows, levels=1)
    books.books.data += 2 * torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(3))
    optimizer = torch.optim.Adam(books.parameters(), lr=0.05)

    def by_gradient(part):
        optimizer.zero_grad()
        loss = books(part).loss
        loss.backward()
        optimizer.step()
        return loss

    step = MovingAverages(books).step if ema else by_gradient
    train_codes("test", rows, 150, 50, 0, step, lambda epoch, generator: None)
    nearest = torch.cdist(books.books[0].detach(), centres).argmin(0)
    torch.testing.assert_close(books.books[0][nearest].detach(), centres, atol=0.3, rtol=0)


def test_a_loss_that_is_not_finite_ends_the_training_with_a_hint(x):
    with pytest.raises(UserError, match=r"rqvae: the loss became nan in epoch 1; a smaller model.lr"):
        train_codes("rqvae", x, 3, 20, 0, lambda rows: rows.sum() * torch.nan, lambda epoch, generator: None)


def test_every_row_is_seen_once_an_epoch_in_an_order_of_the_seed(x):
    def order(seed):
        seen = []
        train_codes("test", x, 2, 16, seed, lambda r: seen.append(r) or r.sum(), lambda epoch, generator: None)
        return torch.cat(seen)

    first = order(0)
    assert torch.equal(order(0), first)
    assert not torch.equal(order(1), first)
    for half in first.split(60):
        torch.testing.assert_close(half.sort(dim=0).values, x.sort(dim=0).values)


def test_the_last_level_is_spread_evenly_where_asked(x):
    books = books_on(x, levels=2, uniform=True)
    books.books.data[1, 1:] += 100
    assert torch.bincount(books(x).codes[:, 1], minlength=4).min() >= 8
    assert torch.bincount(torch.from_numpy(books.assign(x)[0][:, 1]), minlength=4).min() >= 8
