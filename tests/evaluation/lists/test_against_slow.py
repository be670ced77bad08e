"""The metrics of lists against a slow loop over pairs, cases and items, against scipy's and scikit-learn's distances, and on planted lists."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from sklearn.metrics.pairwise import cosine_distances

from recbench.core.errors import UserError
from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.split import make_split
from recbench.data.training import TrainingData
from recbench.evaluation.evaluate import evaluate
from recbench.evaluation.lists.calibration import ALPHA
from recbench.evaluation.lists.disparity import by_size, gap
from recbench.evaluation.lists.families import FAMILIES, check_data, measure
from recbench.evaluation.lists.material import TAIL, Items, blocks, popularity_groups

CUTOFFS = [1, 5, 10]


@pytest.fixture(scope="module")
def world(random_data):
    """Lists of a random model over 57 users and 90 items, two fifths of which have categories and texts that are not known."""
    import torch

    generator = np.random.default_rng(3)
    table = torch.from_numpy(generator.random((random_data.n_users, 91)).astype(np.float32))
    split = make_split(random_data, LeaveOneOutConfig(seen_items="mask"), None)
    found = evaluate(lambda batch: table[batch.user], random_data, split.test, split, 5, top_k=10)
    categories = (generator.random((91, 6)) < 0.2) * 1.0
    vectors = generator.normal(size=(91, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[generator.random(91) < 0.2] = 0
    categories[0], vectors[0] = 0, 0
    counts = TrainingData.of(random_data, split).item_counts()
    items = Items(counts, csr_matrix(categories), vectors)
    return random_data, split, found, items


@pytest.fixture(scope="module")
def measured(world):
    data, split, found, items = world
    return measure(list(FAMILIES), items, blocks(found, data, split.test, True), found, CUTOFFS)


def per_list(world, k):
    """(history, first k of the list, target, rank) of each case."""
    data, split, found, _ = world
    for row, case in enumerate(found.top_k_case):
        history = data.items[split.test.start[case] : split.test.end[case]].tolist()
        yield history, found.top_k[row, :k].tolist(), int(found.target[row]), float(found.rank[row])


@pytest.mark.parametrize("kind", ["category", "text"])
@pytest.mark.parametrize("k", [5, 10])
def test_diversity_is_the_mean_distance_of_all_pairs(world, measured, kind, k):
    items = world[3]
    vectors = items.categories.toarray() if kind == "category" else items.vectors
    for value, (_, listed, _, _) in zip(measured.per_case[f"ild_{kind}@{k}"], per_list(world, k), strict=True):
        known = [item for item in listed if vectors[item].any()]
        if len(known) < 2:
            assert math.isnan(value)
            continue
        distances = cosine_distances(vectors[known])
        assert value == pytest.approx(np.mean([distances[i, j] for i, j in combinations(range(len(known)), 2)]))


def mix(items, of_item):
    total = sum(of_item[item] for item in items)
    return total / total.sum() if total.sum() else None


@pytest.mark.parametrize("k", CUTOFFS)
def test_calibration_is_scipys_divergence(world, measured, k):
    items = world[3]
    categories = items.categories.toarray()
    shares = categories / np.maximum(categories.sum(1, keepdims=True), 1)
    groups = np.eye(3)[items.group] * (np.arange(91) > 0)[:, None]
    names = (f"calibration_category@{k}", f"calibration_popularity@{k}")
    for by_category, by_popularity, (history, listed, _, _) in zip(
        *(measured.per_case[name] for name in names), per_list(world, k), strict=True
    ):
        p, q = mix(history, shares), mix(listed, shares)
        if p is None or q is None:
            assert math.isnan(by_category)
        else:
            assert by_category == pytest.approx(entropy(p, (1 - ALPHA) * q + ALPHA * p), abs=1e-9)
        p, q = mix(history, groups), mix(listed, groups)
        assert by_popularity == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-9)


@pytest.mark.parametrize("k", CUTOFFS)
def test_popularity_and_serendipity_equal_a_slow_loop(world, measured, k):
    items = world[3]
    order = sorted(range(1, 91), key=lambda item: (-items.counts[item], item))
    for row, (history, listed, target, rank) in enumerate(per_list(world, k)):
        expected = [item for item in order if item not in history][:k]
        own = {name: values[row] for name, values in measured.per_case.items()}
        assert own[f"arp@{k}"] == pytest.approx(items.counts[listed].mean())
        assert own[f"aplt@{k}"] == pytest.approx(np.mean([items.group[item] == TAIL for item in listed]))
        assert own[f"serendipity@{k}"] == pytest.approx((rank <= k and target not in expected) / k)
        if items.group[target] == TAIL:
            assert own[f"tail_recall@{k}"] == (rank <= k)
        else:
            assert math.isnan(own[f"tail_recall@{k}"])


def test_how_blocks_are_cut_changes_nothing(world, measured, monkeypatch):
    data, split, found, items = world
    monkeypatch.setattr("recbench.evaluation.lists.material.EVENTS_AT_ONCE", 40)
    parts = list(blocks(found, data, split.test, True))
    assert len(parts) > 5
    again = measure(list(FAMILIES), items, iter(parts), found, CUTOFFS)
    for name, values in measured.per_case.items():
        np.testing.assert_allclose(again.per_case[name], values, rtol=1e-12)
    assert again.overall == measured.overall


def test_planted_lists(world):
    """A list of the most popular items: nothing of it surprises, nothing is of the tail, and the exposure leans to the head."""
    from dataclasses import replace

    data, split, found, items = world
    popular = np.stack(
        [
            [item for item in items.order if item not in data.items[split.test.start[c] : split.test.end[c]]][:10]
            for c in found.top_k_case
        ]
    ).astype(np.int32)
    place = [np.flatnonzero(row == target) for row, target in zip(popular, found.target, strict=True)]
    rank = np.array([p[0] + 1.0 if len(p) else 50.0 for p in place])
    planted = replace(found, top_k=popular, rank=rank)
    figures = measure(list(FAMILIES), items, blocks(planted, data, split.test, True), planted, CUTOFFS).figures()
    random = measure(list(FAMILIES), items, blocks(found, data, split.test, True), found, CUTOFFS).figures()
    assert (rank <= 10).any()
    assert figures["serendipity@10"] == 0.0
    assert figures["aplt@5"] == 0.0 < random["aplt@5"]
    assert figures["arp@5"] > random["arp@5"]
    assert figures["disparity_exposure@5"] > random["disparity_exposure@5"]
    assert figures["calibration_popularity@5"] > random["calibration_popularity@5"]


def test_groups_and_gaps():
    counts = np.array([0, 50, 30, 10, 5, 4, 1, 0])
    # Half of all events are before item 2, and item 3 begins at 80 %.
    assert popularity_groups(counts).tolist() == [-1, 0, 1, 2, 2, 2, 2, 2]
    assert by_size(np.array([3, 3, 3, 3]), 4).tolist() == [0, 0, 0, 0]
    assert np.bincount(by_size(np.arange(100), 4)).tolist() == [25, 25, 25, 25]
    assert gap(np.array([0.2, 0.4, 0.9]), np.array([0, 0, -1])) == 0.0


def test_diversity_needs_something_to_read():
    with pytest.raises(UserError, match="reads categories or texts"):
        check_data(["ild"], False, False)
    check_data(["calibration", "arp"], False, False)
