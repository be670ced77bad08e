"""Every figure on item codes, against a naive loop."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from recbench.models.tokenizers.code_report import last_categories, tokenizer_report

N, SIZES = 60, [4, 5, 3]


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(1)
    codes = np.stack([rng.integers(size, size=N) for size in SIZES], axis=1)
    codes[:, 1] = np.minimum(codes[:, 1], 2)  # two codes of the second level are never used
    categories = rng.integers(-1, 4, size=N)
    together = sparse.random_array((N + 1, N + 1), density=0.05, rng=rng, format="csr").tolil()
    together[0], together[:, 0] = 0, 0
    together.setdiag(0)
    together = sparse.csr_array(together)
    together.eliminate_zeros()
    return codes, categories, together


@pytest.fixture(scope="module")
def report(given):
    codes, categories, together = given
    return tokenizer_report(codes, [*SIZES, 9], together, categories)


def groups_of(codes, depth):
    groups = defaultdict(list)
    for i, row in enumerate(codes.tolist()):
        groups[tuple(row[:depth])].append(i)
    return groups


def test_usage_and_perplexity(given, report):
    for level, size in enumerate(SIZES):
        counts = Counter(given[0][:, level].tolist())
        entropy = -sum(c / N * math.log(c / N) for c in counts.values())
        assert report[f"usage_{level + 1}"] == pytest.approx(len(counts) / size)
        assert report[f"perplexity_{level + 1}"] == pytest.approx(math.exp(entropy))
    assert report["usage_2"] == 0.6


def test_collisions(given, report):
    groups = groups_of(given[0], 3)
    sizes = sorted(len(g) for g in groups.values() for _ in g)
    assert report["distinct"] == pytest.approx(len(groups) / N)
    assert report["collision_rate"] == pytest.approx(sum(s > 1 for s in sizes) / N)
    assert report["largest_group"] == max(sizes)
    for q in (50, 90, 99):
        assert report[f"group_p{q}"] == sizes[math.ceil(q * N / 100) - 1]
    assert report["collision_codes"] == 9
    assert [report[f"prefixes_{d}"] for d in (1, 2, 3)] == [len(groups_of(given[0], d)) for d in (1, 2, 3)]


def test_purity(given, report):
    codes, categories, _ = given
    for depth in (1, 2, 3):
        right = 0
        for members in groups_of(codes, depth).values():
            counts = Counter(int(categories[i]) for i in members if categories[i] >= 0)
            right += max(counts.values(), default=0)
        assert report[f"purity_{depth}"] == pytest.approx(right / sum(categories >= 0))
        # The same groups dealt out at random: near what many deals give on average.
        deals = []
        for seed in range(200):
            dealt = np.random.default_rng(seed + 1).permutation(categories)
            deal = sum(
                max(Counter(int(dealt[i]) for i in m if dealt[i] >= 0).values(), default=0)
                for m in groups_of(codes, depth).values()
            )
            deals.append(deal / sum(categories >= 0))
        assert abs(report[f"purity_chance_{depth}"] - np.mean(deals)) < 5 * np.std(deals) + 1e-9


def test_neighbour_recall(given, report):
    codes, _, together = given
    dense = together.toarray()
    for depth in (1, 2, 3):
        recalls, chances = [], []
        for i in range(N):
            near = [j for j in range(N) if dense[i + 1, j + 1]]
            if near:
                same = [j for j in range(N) if j != i and tuple(codes[j, :depth]) == tuple(codes[i, :depth])]
                recalls.append(sum(j in same for j in near) / len(near))
                chances.append(len(same) / (N - 1))
        assert report[f"neighbour_recall_{depth}"] == pytest.approx(np.mean(recalls))
        assert report[f"neighbour_chance_{depth}"] == pytest.approx(np.mean(chances))


def test_what_is_not_known_is_left_out(given):
    codes, _, _ = given
    nothing = sparse.csr_array((N + 1, N + 1))
    found = tokenizer_report(codes, SIZES, nothing, np.full(N, -1))
    assert not any(name.startswith(("purity", "neighbour", "collision_codes")) for name in found)


def test_the_last_category_is_the_most_special_one():
    table = pl.DataFrame({"item_id": [2, 1, 3, 4], "categories": [["a", "b"], ["a", "c", ""], None, []]})
    assert last_categories(table).tolist() == [0, 1, -1, -1]
