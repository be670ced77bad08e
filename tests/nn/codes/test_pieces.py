"""From codes to pieces: what each kind promises about rows, sharing and order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from recbench.core.errors import UserError
from recbench.nn.codes.pieces import code_pieces, merged_pieces, ngram_pieces

SIZES = [4, 4, 4]
CODES = np.random.default_rng(3).integers(4, size=(40, 3))
WEIGHTS = np.random.default_rng(4).integers(1, 30, size=40).astype(float)


def signature(pieces):
    return ["-".join(map(str, row)) for row in pieces.tolist()]


def test_equal_codes_are_equal_pieces_and_only_they():
    for pieces, rows in (
        code_pieces(CODES, SIZES),
        ngram_pieces(CODES, SIZES, 3, 64),
        merged_pieces(CODES, SIZES, WEIGHTS, 30),
    ):
        assert pieces.min() >= 0
        assert pieces.max() <= rows
        by_codes = {tuple(row) for row in CODES.tolist()}
        assert len({(tuple(c), s) for c, s in zip(CODES.tolist(), signature(pieces), strict=True)}) == len(by_codes)
        assert len(set(signature(pieces))) == len(by_codes)


def test_an_exact_group_of_all_levels_is_a_table_of_items_without_collisions():
    pieces, rows = ngram_pieces(CODES, SIZES, 3, 64)
    assert pieces.shape == (40, 1)
    assert rows == 64
    hashed, fewer = ngram_pieces(CODES, SIZES, 3, 20)
    assert fewer == 20
    assert hashed.max() <= 20
    with pytest.raises(UserError, match=r"pieces\.rows=1 is fewer than the 3 groups"):
        ngram_pieces(CODES, SIZES, 1, 1)


def test_without_room_to_merge_the_pieces_are_the_codes():
    pieces, rows = merged_pieces(CODES, SIZES, WEIGHTS, 12)
    assert rows == 12
    assert np.array_equal(pieces, code_pieces(CODES, SIZES)[0])
    with pytest.raises(UserError, match=r"fewer than the 12 single codes"):
        merged_pieces(CODES, SIZES, WEIGHTS, 11)


def test_merges_do_not_depend_on_the_order_of_items():
    order = np.random.default_rng(5).permutation(40)
    straight, _ = merged_pieces(CODES, SIZES, WEIGHTS, 40)
    mixed, _ = merged_pieces(CODES[order], SIZES, WEIGHTS[order], 40)
    assert np.array_equal(straight[order], mixed)


def test_popular_items_get_a_row_of_their_own_first():
    weights = np.ones(40)
    weights[7] = 1000.0
    pieces, _ = merged_pieces(CODES, SIZES, weights, 14)
    alone = (pieces > 0).sum(1)
    assert alone[7] == 1
    same = (CODES[7] == CODES).all(1)
    assert (alone[~same] > 1).all()


def test_merges_are_those_of_a_slow_count():
    """Byte-pair encoding by counting all pairs anew each time."""
    words = [list(row) for row in code_pieces(CODES, SIZES)[0].tolist()]
    for made in range(13, 25):
        counts: dict[tuple[int, int], float] = {}
        for word, weight in zip(words, WEIGHTS, strict=True):
            for pair in itertools.pairwise(word):
                counts[pair] = counts.get(pair, 0.0) + weight
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        for word in words:
            for place in range(len(word) - 1):
                if tuple(word[place : place + 2]) == best:
                    word[place : place + 2] = [made]
                    break
    pieces, _ = merged_pieces(CODES, SIZES, WEIGHTS, 24)
    assert [[p for p in row if p] for row in pieces.tolist()] == words
