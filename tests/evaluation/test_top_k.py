"""Top-k lists: exact, never a pad or a masked item, ties by a hash that favours nobody."""

import numpy as np
import pytest
import torch

from recbench.evaluation import top_k as top_k_module
from recbench.evaluation.ranking import Seen
from recbench.evaluation.top_k import top_k_lists


def random_scores(rows, n_items, values=None, seed=0):
    generator = np.random.default_rng(seed)
    drawn = (
        generator.normal(size=(rows, n_items + 1)) if values is None else generator.choice(values, (rows, n_items + 1))
    )
    return torch.from_numpy(drawn.astype(np.float32))


@pytest.mark.parametrize("n_items", [5, 31, 32, 200, 5000])
@pytest.mark.parametrize("k", [1, 10, 40])
def test_equals_a_full_sort(n_items, k):
    scores = random_scores(7, n_items)
    lists = top_k_lists(scores, k, torch.arange(7), Seen.nothing())
    expected = scores[:, 1:].argsort(dim=1, descending=True)[:, :k] + 1
    assert lists.tolist() == expected.tolist()
    assert lists.dtype == torch.int32


@pytest.mark.parametrize("values", [[-1.0, -0.0, 0.0, 0.5, 3.0], [-1e30, -7.0, -2.5, -2.0, -1e-30]])
@pytest.mark.parametrize("n_items", [60, 3000])
def test_scores_of_lists_with_ties_are_the_best_ones(n_items, values):
    # The better values are rare, so that a list holds several of them.
    scores = random_scores(20, n_items, values=values[:1] * 5 * n_items + values[1:] * 5)
    lists = top_k_lists(scores, 15, torch.arange(20), Seen.nothing()).long()
    assert torch.equal(scores.gather(1, lists), scores[:, 1:].topk(15, dim=1).values)
    assert all(len(set(row)) == 15 and min(row) > 0 for row in lists.tolist())


def test_pads_masked_items_and_minus_infinity_are_never_listed():
    scores = torch.tensor([[9.0, 1.0, 2.0, 3.0, -torch.inf], [torch.nan, 4.0, 3.0, 2.0, 1.0]])
    seen = Seen(torch.tensor([0, 1, 1]), torch.tensor([3, 1, 2]))
    assert top_k_lists(scores, 3, torch.arange(2), seen).tolist() == [[2, 1, 0], [3, 4, 0]]
    assert scores[0].tolist() == [9.0, 1.0, 2.0, 3.0, -torch.inf]


def test_k_beyond_the_catalogue():
    assert top_k_lists(torch.tensor([[0.0, 1.0, 3.0, 2.0]]), 50, torch.arange(1), Seen.nothing()).tolist() == [
        [2, 3, 1]
    ]


def test_ties_favour_no_item():
    n_users, n_items, k = 3000, 100, 10
    lists = top_k_lists(torch.zeros(n_users, n_items + 1), k, torch.arange(n_users), Seen.nothing()).numpy()
    shown = np.bincount(lists.ravel(), minlength=n_items + 1)[1:]
    expected = n_users * k / n_items
    # Five standard deviations of a binomial count, for the whole list and for its first place.
    assert np.abs(shown - expected).max() < 5 * np.sqrt(expected)
    first = np.bincount(lists[:, 0], minlength=n_items + 1)[1:]
    assert np.abs(first - expected / k).max() < 5 * np.sqrt(expected / k)


def test_both_zeros_are_one_tie():
    signed = torch.zeros(50, 61)
    signed[:, ::2] = -0.0
    lists = [top_k_lists(scores, 10, torch.arange(50), Seen.nothing()) for scores in (signed, torch.zeros(50, 61))]
    assert torch.equal(*lists)


def test_a_tie_cut_by_the_end_of_the_list_is_broken_by_the_hash():
    scores = torch.zeros(500, 41)
    scores[:, 1] = 1.0
    lists = top_k_lists(scores, 2, torch.arange(500), Seen.nothing())
    assert set(lists[:, 0].tolist()) == {1}
    assert set(lists[:, 1].tolist()) == set(range(2, 41))


def test_lists_depend_on_the_user_and_not_on_block_or_tile(monkeypatch):
    scores, user = random_scores(30, 300, values=[0.0, 1.0]), torch.arange(100, 130)
    seen = Seen(torch.arange(30), torch.arange(1, 31))
    whole = top_k_lists(scores, 20, user, seen)
    monkeypatch.setattr(top_k_module, "TILE", 1000)
    assert torch.equal(whole, top_k_lists(scores, 20, user, seen))
    for row in range(30):
        own = Seen(torch.tensor([0]), torch.tensor([row + 1]))
        assert torch.equal(whole[row : row + 1], top_k_lists(scores[row : row + 1], 20, user[row : row + 1], own))
