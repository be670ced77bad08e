"""Beam search against brute force and the exact scores, constrained and free."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbench.nn.decoding.beam import beam_search
from recbench.nn.decoding.exact import score_catalogue
from recbench.nn.decoding.trie import Trie

SIZES = (4, 3, 5)


def brute_force(model, codes, user):
    return [model.log_prob(user, row) for row in codes[1:].tolist()]


@pytest.mark.parametrize("positions", [1, 7, 10_000])
def test_exact_scores_are_those_of_brute_force(table_model, catalogue, positions):
    codes, model = catalogue(SIZES, 23), table_model(3, SIZES)
    scores = score_catalogue(model, Trie.of(codes, SIZES), positions)
    assert scores.shape == (3, 24)
    assert (scores[:, 0] == -torch.inf).all()
    for user in range(3):
        torch.testing.assert_close(scores[user, 1:], torch.tensor(brute_force(model, codes, user)))


def test_all_codes_together_have_probability_one(table_model, catalogue):
    trie = Trie.of(catalogue(SIZES, 60), SIZES)
    torch.testing.assert_close(score_catalogue(table_model(3, SIZES), trie).exp().sum(dim=1), torch.ones(3))


@given(st.integers(0, 10_000), st.integers(1, 60), st.booleans())
@settings(max_examples=40, deadline=None)
def test_as_many_beams_as_items_find_them_all_in_order(table_model, catalogue, seed, n_items, distinct):
    codes, model = catalogue(SIZES, n_items, seed, distinct), table_model(2, SIZES, seed)
    trie = Trie.of(codes, SIZES)
    leaf, scores = beam_search(model, trie, beams=60)
    items, scores = trie.expand(leaf, scores, n_items)
    assert items.sort(dim=1).values.tolist() == [list(range(1, n_items + 1))] * 2
    assert (scores.diff(dim=1) <= 0).all()
    torch.testing.assert_close(scores, score_catalogue(model, trie).gather(1, items))


@pytest.mark.parametrize("beams", [1, 2, 5])
def test_a_narrow_beam_is_the_search_written_out(table_model, catalogue, beams):
    codes, model = catalogue(SIZES, 30), table_model(3, SIZES)
    trie = Trie.of(codes, SIZES)
    leaf, scores = beam_search(model, trie, beams)
    rows = [tuple(row) for row in codes[1:].tolist()]
    for user in range(3):
        kept = [()]
        for level in range(3):
            longer = sorted({row[: level + 1] for row in rows if row[:level] in kept})
            score = {p: sum(float(model.tables[i][(user, *p[: i + 1])]) for i in range(level + 1)) for p in longer}
            kept = sorted(longer, key=score.get, reverse=True)[:beams]
        found = [rows[int(trie.items[trie.leaf_first[n]]) - 1] for n in leaf[user]]
        assert found == kept
        torch.testing.assert_close(scores[user], torch.tensor([score[p] for p in kept]))


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 70))
@settings(max_examples=40, deadline=None)
def test_a_search_ends_with_as_many_leaves_as_there_are_or_beams(table_model, catalogue, seed, n_items, beams):
    """Every node has a child, so no beam dies on the way."""
    trie = Trie.of(catalogue(SIZES, n_items, seed, distinct=False), SIZES)
    leaf, scores = beam_search(table_model(2, SIZES, seed), trie, beams)
    wanted = min(beams, len(trie.levels[-1]))
    assert [len(set(row)) for row in leaf.tolist()] == [wanted] * 2
    assert scores.isfinite().all()


def test_what_a_model_says_is_impossible_is_dropped(table_model):
    codes = torch.tensor([[-1] * 3, [0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 1, 0], [2, 2, 0]])
    trie, model = Trie.of(codes, (3, 3, 1)), table_model(1, (3, 3, 1))
    model.tables[1][0, 2] = torch.tensor([0.0, -torch.inf, -torch.inf])
    leaf, scores = beam_search(model, trie, beams=5)
    items, scores = trie.expand(leaf, scores, 5)
    assert sorted(items[0].tolist()) == [0, 0, 1, 2, 3]
    assert scores[0].isfinite().tolist() == [True, True, True, False, False]


@given(st.integers(0, 1000), st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_a_free_beam_knows_which_of_its_codes_are_items(table_model, catalogue, seed, beams):
    codes, model = catalogue(SIZES, 20, seed), table_model(2, SIZES, seed)
    trie = Trie.of(codes, SIZES)
    leaf, scores = beam_search(model, trie, beams, constrained=False)
    real = {tuple(row): item for item, row in enumerate(codes[1:].tolist(), start=1)}
    for user in range(2):
        kept = [()]
        for level in range(3):
            longer = [(*p, c) for p in kept for c in range(SIZES[level])]
            score = {p: sum(float(model.tables[i][(user, *p[: i + 1])]) for i in range(level + 1)) for p in longer}
            kept = sorted(longer, key=score.get, reverse=True)[:beams]
        expected = [real.get(p, 0) for p in kept]
        items, found = trie.expand(leaf[user : user + 1], scores[user : user + 1], beams)
        assert items[0].tolist() == expected
        torch.testing.assert_close(found[0], torch.tensor([score[p] for p in kept]))


def test_free_and_constrained_agree_where_every_code_is_an_item(table_model):
    codes = torch.tensor([[-1, -1], *itertools.product(range(3), range(4))])
    trie, model = Trie.of(codes, (3, 4)), table_model(3, (3, 4))
    for a, b in zip(beam_search(model, trie, 5), beam_search(model, trie, 5, constrained=False), strict=True):
        torch.testing.assert_close(a, b)


def test_a_catalogue_of_one_item(table_model):
    trie, model = Trie.of(torch.tensor([[-1, -1], [1, 2]]), (3, 4)), table_model(2, (3, 4))
    leaf, scores = beam_search(model, trie, 50)
    assert trie.expand(leaf, scores, 1)[0].tolist() == [[1], [1]]
    torch.testing.assert_close(scores, score_catalogue(model, trie)[:, 1:])
