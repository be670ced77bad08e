"""The blocks in which cases are ranked: every case once, and histories of like length together."""

from __future__ import annotations

import numpy as np
import pytest

from recbench.data.batches import evaluation_batches, like_lengths
from recbench.evaluation.blocks import blocks_of


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_a_block_is_full_or_its_next_case_is_much_longer(rows):
    length = np.sort(np.random.default_rng(3).geometric(0.1, 500).clip(max=50))
    blocks = like_lengths(length, rows)
    assert [first for first, _ in blocks] == [0, *(end for _, end in blocks[:-1])]
    assert blocks[-1][1] == len(length)
    for first, end in blocks:
        assert 0 < end - first <= rows
        assert length[end - 1] <= 1.5 * length[first] + 4
        assert end - first == rows or end == len(length) or length[end] > 1.5 * length[first] + 4


def test_no_case_gives_no_block():
    assert like_lengths(np.array([], dtype=np.int64), 4) == []


@pytest.mark.parametrize("parts", [1, 3])
def test_parts_share_the_blocks_and_little_is_padded(tiny_data, tiny_split, parts):
    found = [
        block
        for part in range(parts)
        for block in blocks_of(tiny_data, tiny_split.test, tiny_split, 50, "cpu", part, parts, None)
    ]
    cases = np.concatenate([block.case for block in found])
    assert sorted(cases) == list(range(len(tiny_split.test)))
    longest = max(block.batch.items.shape[1] for block in found)
    assert longest > 12  # so that some padding could be left out
    assert len(found) > 1
    for block in found:
        shortest, width = int(block.batch.lengths.min()), block.batch.items.shape[1]
        assert width <= 1.5 * shortest + 4


def test_one_batch_is_one_batch_where_nobody_asks_for_like_lengths(tiny_data, tiny_split):
    assert len(list(evaluation_batches(tiny_data, tiny_split.test, 50, len(tiny_split.test)))) == 1
