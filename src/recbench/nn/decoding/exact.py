"""The log-probability of every item: every node of the trie is visited once. What a beam search is measured against.

Shapes: B users, V = n_items + 1, N nodes of a level.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from recbench.nn.decoding.codes import CodeModel
from recbench.nn.decoding.trie import Trie

#: Prefixes that are decoded at once, over all users.
POSITIONS = 1 << 13


def score_catalogue(model: CodeModel, trie: Trie, positions: int = POSITIONS) -> Tensor:
    """[B, V] log-probability of each item's codes; items that share all codes share it too. Column 0, the pad, is -inf.

    positions: bound of the memory; the nodes of a level are a run of neighbours, so parts of the catalogue are decoded one after another.
    """
    first, start = model.first()
    out = first.new_full((len(first), trie.n_items + 1), -torch.inf)
    leaves = max(1, positions // len(first))
    for low in range(0, len(trie.leaf_first) - 1, leaves):
        high = min(low + leaves, len(trie.leaf_first) - 1)
        found = _score_leaves(model, trie, first, start, low, high)
        begin, end = int(trie.leaf_first[low]), int(trie.leaf_first[high])
        leaf = torch.repeat_interleave(trie.leaf_first[low : high + 1].diff())
        out[:, trie.items[begin:end]] = found[:, leaf]
    return out


def _score_leaves(model: CodeModel, trie: Trie, first: Tensor, state: object, low: int, high: int) -> Tensor:
    """[B, high - low]: log-probabilities of the leaves ``low : high``. Ancestors that two parts share are visited in both."""
    log_probs, scores = first, first.new_zeros(len(first), 1)
    above = 0
    for depth, (begin, end) in enumerate(_ancestors(trie, low, high)):
        level = trie.levels[depth]
        parent, code = level.parent[begin:end] - above, level.code[begin:end]
        scores = scores[:, parent] + log_probs[:, parent, code]
        above = begin
        if depth < len(trie.levels) - 1:
            rows = (len(first), len(code))
            log_probs, state = model.next(state, parent.expand(rows), code.expand(rows))
    return scores


def _ancestors(trie: Trie, low: int, high: int) -> Iterator[tuple[int, int]]:
    """For each depth from the top the nodes ``begin : end`` above the leaves ``low : high``."""
    ranges = [(low, high)]
    for level in reversed(trie.levels[1:]):
        begin, end = ranges[-1]
        ranges.append((int(level.parent[begin]), int(level.parent[end - 1]) + 1))
    yield from reversed(ranges)
