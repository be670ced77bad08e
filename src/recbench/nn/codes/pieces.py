"""From the codes of items to the pieces whose rows make their vectors: single codes, groups of codes, or learned runs of codes.

Shapes: I items, M levels, P pieces of an item. Pieces are numbered from 1; 0 fills up an item that has fewer than P.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from recbench.core.errors import UserError
from recbench.core.splitmix import STEP, splitmix64


def code_pieces(codes: np.ndarray, sizes: Sequence[int]) -> tuple[np.ndarray, int]:
    """(pieces [I, M], rows): one piece for each code of each level.

    >>> code_pieces(np.array([[0, 1], [2, 0]]), [3, 2])
    (array([[1, 5],
           [3, 4]]), 5)
    """
    first = np.cumsum([0, *sizes[:-1]])
    return (codes + first + 1).astype(np.int64), int(sum(sizes))


def ngram_pieces(codes: np.ndarray, sizes: Sequence[int], n: int, rows: int) -> tuple[np.ndarray, int]:
    """(pieces [I, ceil(M / n)], rows): one piece for each group of n levels. A group whose codes have more combinations than its share of the
    rows is hashed into that share. Raises UserError where there are fewer rows than groups."""
    starts = range(0, codes.shape[1], n)
    share = rows // len(starts)
    if share < 1:
        raise UserError(f"model.pieces.rows={rows} is fewer than the {len(starts)} groups of an item's codes; raise it")
    columns, used = [], 0
    for number, start in enumerate(starts):
        group, of_group = codes[:, start : start + n], sizes[start : start + n]
        combinations = int(np.prod(np.asarray(of_group, dtype=object)))
        place = np.zeros(len(codes), dtype=np.uint64)
        for level, size in enumerate(of_group):
            place = place * np.uint64(size) + group[:, level].astype(np.uint64)
        if combinations > share:
            place = splitmix64(place + np.uint64(number + 1) * STEP) % np.uint64(share)
        columns.append(1 + used + place.astype(np.int64))
        used += min(combinations, share)
    return np.column_stack(columns), used


def merged_pieces(codes: np.ndarray, sizes: Sequence[int], weights: np.ndarray, rows: int) -> tuple[np.ndarray, int]:
    """(pieces [I, P], rows): runs of levels, merged by how often they are met, until the table has ``rows`` rows or nothing is left to merge.

    An item is the word of its M codes and counts ``weights`` [I] times. The pair of neighbouring pieces with the largest sum of counts is merged
    again and again (byte-pair encoding); of equal pairs the one with the lower numbers, so the order of the items decides nothing. A piece is a
    run of levels with fixed codes; one that covers all levels is an item's own. Single codes stay, as rows 1..sum(sizes), and belong to ``rows``.
    Raises UserError for fewer rows than single codes.
    """
    symbols, n_symbols = code_pieces(codes, sizes)
    if rows < n_symbols:
        raise UserError(f"model.pieces.rows={rows} is fewer than the {n_symbols} single codes; raise it")
    unique, owner = np.unique(symbols, axis=0, return_inverse=True)
    counts = np.bincount(owner.reshape(-1), weights=weights, minlength=len(unique))
    words = [tuple(word) for word in unique.tolist()]
    merged = _merge(words, counts.tolist(), n_symbols, rows)
    width = max(len(word) for word in merged)
    table = np.zeros((len(merged), width), dtype=np.int64)
    for row, word in enumerate(merged):
        table[row, : len(word)] = word
    return table[owner.reshape(-1)], max(n_symbols, int(table.max(initial=0)), 0)


def _merge(words: list[tuple[int, ...]], counts: list[float], first: int, rows: int) -> list[tuple[int, ...]]:
    """The words after up to ``rows - first`` merges; the k-th merge makes piece ``first + k``."""
    total: dict[tuple[int, int], float] = defaultdict(float)
    where: dict[tuple[int, int], set[int]] = defaultdict(set)
    for number, word in enumerate(words):
        for pair in pairwise(word):
            total[pair] += counts[number]
            where[pair].add(number)
    heap = [(-value, pair) for pair, value in total.items()]
    heapq.heapify(heap)
    made = first
    while heap and made < rows:
        value, pair = heapq.heappop(heap)
        if value != -total.get(pair, 0.0) or not where[pair]:
            continue  # an entry of before
        made += 1
        for number in sorted(where.pop(pair)):
            old = words[number]
            place = next(i for i, found in enumerate(pairwise(old)) if found == pair)
            new = (*old[:place], made, *old[place + 2 :])
            words[number] = new
            for gone in pairwise(old):
                if gone != pair:
                    total[gone] -= counts[number]
                    where[gone].discard(number)
                    heapq.heappush(heap, (-total[gone], gone))
            for came in pairwise(new):
                total[came] += counts[number]
                where[came].add(number)
                heapq.heappush(heap, (-total[came], came))
        total.pop(pair)
    return words
