"""Order-free decoding against full scoring, and against the search written out."""

from __future__ import annotations

import pytest
import torch

from recbench.nn.decoding.confident import confident_lists

SIZES, N, USERS = [4, 5, 3], 40, 6


@pytest.fixture
def world():
    """(table [T, B], tokens [N, M], scores [B, N])."""
    generator = torch.Generator().manual_seed(2)
    logits = [2 * torch.randn(size, USERS, generator=generator) for size in SIZES]
    table = torch.cat([level.log_softmax(0) for level in logits])
    start = torch.tensor([0, 4, 9])
    tokens = torch.stack([torch.randint(size, (N,), generator=generator) for size in SIZES], 1) + start
    return table, tokens, table[tokens].mean(1).T


def test_with_every_code_kept_it_is_full_scoring(world):
    table, tokens, scores = world
    items, found = confident_lists(table, tokens, SIZES, beams=5, k=N)
    best = scores.sort(dim=1, descending=True, stable=True)
    assert torch.equal(items, best.indices + 1)
    torch.testing.assert_close(found, best.values)


@pytest.mark.parametrize(("beams", "k"), [(1, 1), (1, 7), (2, 3), (3, 20)])
def test_it_is_the_search_written_out(world, beams, k):
    table, tokens, scores = world
    items, found = confident_lists(table, tokens, SIZES, beams, k)
    for user in range(USERS):
        rows = table[:, user].split(SIZES)
        alive = set(range(N))
        for step, level in enumerate(sorted(range(3), key=lambda n: -float(rows[n].max()))):
            ranked = rows[level].argsort(descending=True).tolist()
            start, n = sum(SIZES[:level]), beams
            while True:
                kept = {i for i in alive if int(tokens[i, level]) - start in ranked[:n]}
                if len(kept) >= k or step:
                    break
                n += 1
            alive = kept if len(kept) >= k else alive
        expected = sorted(alive, key=lambda i: (-float(scores[user, i]), i))[:k]
        assert items[user].tolist() == [i + 1 for i in expected]
        torch.testing.assert_close(found[user], scores[user, expected])
