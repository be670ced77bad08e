"""The flat trie against one of nested dicts, which is slow and obvious."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbench.nn.decoding import trie as module
from recbench.nn.decoding.trie import Trie


def nested(codes):
    """Rows of codes -> dicts of dicts; at the leaves the lists of items."""
    root = {}
    for item, row in enumerate(codes, start=1):
        node = root
        for code in row[:-1]:
            node = node.setdefault(code, {})
        node.setdefault(row[-1], []).append(item)
    return root


@st.composite
def catalogues(draw):
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    row = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    return sizes, draw(st.lists(row, min_size=1, max_size=30))


def with_pad(codes):
    codes = np.array(codes, dtype=np.int64)
    return np.concatenate([np.full((1, codes.shape[1]), -1), codes])


def same(trie, node, expected, depth):
    """Compare a node and all below it by ``children`` and by ``child``."""
    child, code = trie.children(depth, torch.tensor(node))
    if code is None:
        code = torch.arange(trie.sizes[depth])
    found = {int(c): int(n) for c, n in zip(code, child, strict=True) if n >= 0}
    assert found.keys() == expected.keys()
    for c in range(trie.sizes[depth]):
        assert int(trie.child(depth, torch.tensor(node), torch.tensor(c))) == found.get(c, -1)
    for c, below in found.items():
        if depth == len(trie.sizes) - 1:
            items = trie.items[trie.leaf_first[below] : trie.leaf_first[below + 1]]
            assert items.tolist() == expected[c]
        else:
            same(trie, below, expected[c], depth + 1)


@given(catalogues(), st.integers(0, 2))
@settings(max_examples=80, deadline=None)
def test_it_holds_what_nested_dicts_hold(drawn, dense_levels):
    sizes, codes = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DENSE_LEVELS", dense_levels)
        trie = Trie.of(with_pad(codes), sizes)
    assert [level.dense is not None for level in trie.levels] == [d < dense_levels for d in range(len(sizes))]
    same(trie, 0, nested(codes), 0)


def test_off_the_trie_there_is_no_way_back():
    trie = Trie.of(with_pad([(0, 0), (1, 1)]), [2, 2])
    assert trie.child(1, torch.tensor([-1, 0, 1]), torch.tensor([0, 0, 0])).tolist() == [-1, 0, -1]


def test_a_table_too_large_is_not_made(monkeypatch):
    monkeypatch.setattr(module, "DENSE_ENTRIES", 5)
    trie = Trie.of(with_pad([(0, 0), (1, 1)]), [2, 3])
    assert [level.dense is not None for level in trie.levels] == [True, False]


def test_buckets_take_a_place_for_each_of_their_items():
    trie = Trie.of(
        with_pad([(1, 0), (0, 0), (1, 0), (0, 1)]), [2, 2]
    )  # leaves: (0,0) = {2}, (0,1) = {4}, (1,0) = {1, 3}
    leaf = torch.tensor([[2, 0, 1], [1, -1, 2]])
    scores = torch.tensor([[-1.0, -2.0, -torch.inf], [-1.0, -2.0, -3.0]])
    items, found = trie.expand(leaf, scores, 4)
    assert items.tolist() == [[1, 3, 2, 0], [4, 0, 1, 3]]
    assert found.tolist() == [[-1.0, -1.0, -2.0, -torch.inf], [-1.0, -2.0, -3.0, -3.0]]
    # Cut within a bucket.
    assert trie.expand(leaf, scores, 1)[0].tolist() == [[1], [4]]


def test_one_item_is_a_catalogue():
    trie = Trie.of(with_pad([(0, 3)]), [1, 7])
    assert (len(trie.levels[0]), len(trie.levels[1]), trie.items.tolist()) == (1, 1, [1])


@pytest.mark.parametrize("codes", [[(0, 2)], [(-1, 0)]])
def test_codes_outside_their_level_are_refused(codes):
    with pytest.raises(ValueError, match="outside 0"):
        Trie.of(with_pad(codes), [2, 2])


def test_an_empty_catalogue_is_refused():
    with pytest.raises(ValueError, match="at least one item"):
        Trie.of(np.full((1, 2), -1), [2, 2])
