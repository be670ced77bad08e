"""Metrics: hand-worked values, limits, agreement with ranx. The examples in their docstrings run as doctests."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbench.evaluation.metrics import per_case, ranking_metrics


def single(rank, cutoffs=(10,), n_ranked=1000, n_equal=None):
    rank = np.array(rank, dtype=np.float64)
    n_equal = np.ones(len(rank), dtype=np.int64) if n_equal is None else np.array(n_equal)
    return ranking_metrics(rank, np.arange(len(rank)), n_equal, n_ranked, cutoffs)


def test_one_target_by_hand():
    found = single([1, 2, 10, 11], cutoffs=[1, 10])
    assert found == pytest.approx(
        {
            "hr@1": 0.25,
            "ndcg@1": 0.25,
            "mrr@1": 0.25,
            "hr@10": 0.75,
            "ndcg@10": (1 + 1 / np.log2(3) + 1 / np.log2(11)) / 4,
            "mrr@10": (1 + 1 / 2 + 1 / 10) / 4,
            "mrr": (1 + 1 / 2 + 1 / 10 + 1 / 11) / 4,
            "tied": 0.0,
        }
    )


def test_several_targets_by_hand():
    rank, case = np.array([1.0, 5.0, 2.0]), np.array([0, 0, 1])
    found = ranking_metrics(rank, case, np.ones(3, dtype=np.int64), 100, [2])
    ideal = 1 + 1 / np.log2(3)
    assert found["recall@2"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["precision@2"] == pytest.approx(1 / 2)
    assert found["ndcg@2"] == pytest.approx((1 / ideal + 1 / np.log2(3)) / 2)
    assert (found["hr@2"], found["mrr"]) == (1.0, 0.75)


def test_recall_divides_by_all_relevant_and_ideal_gain_by_what_fits():
    rank, case = np.arange(1.0, 21.0), np.zeros(20, dtype=int)
    assert per_case("recall@10", rank, case, 100).tolist() == [0.5]
    assert per_case("ndcg@10", rank, case, 100).tolist() == [1.0]


def test_recall_and_precision_only_where_they_say_more_than_hit_rate():
    assert not {"recall@10", "precision@10"} & set(single([1, 2]))


@pytest.mark.parametrize("metric", ["hr", "ndcg", "mrr", "recall", "precision"])
def test_cutoff_beyond_the_catalogue_means_all_of_it(metric):
    rank, case = np.array([1.0, 4.0, 7.0]), np.array([0, 0, 1])
    assert np.array_equal(per_case(f"{metric}@500", rank, case, 7), per_case(f"{metric}@7", rank, case, 7))


def test_unsorted_cases_are_grouped():
    rank, case = np.array([3.0, 1.0, 9.0]), np.array([4, 2, 4])
    assert per_case("mrr", rank, case, 10).tolist() == [1.0, 1 / 3]


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 20))
def test_a_constant_model_is_at_chance(n_items, k):
    found = single([(n_items + 1) / 2], [k], n_items, [n_items])
    assert found[f"hr@{k}"] == float((n_items + 1) / 2 <= k)
    assert found["mrr"] == pytest.approx(2 / (n_items + 1))
    assert found["tied"] == float(n_items > 1)


def test_a_tie_that_matters_is_reported_with_both_ends():
    found = single([50.5] * 4, n_ranked=100, n_equal=[100] * 4)
    assert (found["ndcg@10"], found["ndcg@10_optimistic"], found["ndcg@10_pessimistic"]) == (0.0, 1.0, 0.0)
    # A tie far below the cutoff is counted but changes nothing.
    found = single([1, 500.5], n_equal=[1, 2])
    assert found["tied"] == 0.5
    assert "ndcg@10_optimistic" not in found


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 30), st.integers(1, 12))
def test_targets_tied_with_each_other_never_exceed_one(n_targets, n_items, k):
    n_targets = min(n_targets, n_items)
    rank, case = np.full(n_targets, (n_items + 1) / 2), np.zeros(n_targets, dtype=int)
    for metric in ("recall", "precision", "ndcg", "hr"):
        assert 0 <= per_case(f"{metric}@{k}", rank, case, n_items)[0] <= 1


def test_no_target_is_an_error_and_not_zero():
    with pytest.raises(ValueError, match="no target"):
        single([])


@pytest.mark.parametrize("name", ["map@10", "hr", "ndcg"])
def test_unknown_metric(name):
    with pytest.raises(KeyError, match="is not a metric"):
        per_case(name, np.array([1.0]), np.array([0]), 10)


@pytest.fixture(scope="module")
def ranx():
    """ranx interpreted: to compile its metrics takes half a minute, to run them on this little data no time."""
    numba = pytest.importorskip("numba")
    compiled, numba.config.DISABLE_JIT = numba.config.DISABLE_JIT, True
    yield pytest.importorskip("ranx")
    numba.config.DISABLE_JIT = compiled


@pytest.mark.parametrize("targets_a_case", [1, 6])
def test_agreement_with_ranx(ranx, targets_a_case):
    generator = np.random.default_rng(5)
    n_cases, n_items, cutoffs = 40, 60, [1, 5, 10]
    scores = generator.permuted(np.tile(np.arange(n_items, dtype=np.float64), (n_cases, 1)), axis=1)
    relevant = [
        generator.choice(n_items, generator.integers(1, targets_a_case + 1), replace=False) for _ in range(n_cases)
    ]
    case = np.repeat(np.arange(n_cases), [len(items) for items in relevant])
    rank = np.concatenate([1 + (scores[c] > scores[c][items][:, None]).sum(1) for c, items in enumerate(relevant)])
    found = ranking_metrics(rank.astype(np.float64), case, np.ones(len(rank), dtype=np.int64), n_items, cutoffs)
    qrels = ranx.Qrels({f"c{c}": {f"i{item}": 1 for item in items} for c, items in enumerate(relevant)})
    run = ranx.Run({f"c{c}": {f"i{item}": scores[c, item] for item in range(n_items)} for c in range(n_cases)})
    theirs = {"hr": "hit_rate", "ndcg": "ndcg", "mrr": "mrr"}
    if targets_a_case > 1:
        theirs |= {"recall": "recall", "precision": "precision"}
    pairs = {f"{ours}@{k}": f"{name}@{k}" for ours, name in theirs.items() for k in cutoffs} | {"mrr": "mrr"}
    expected = ranx.evaluate(qrels, run, list(pairs.values()))
    assert {name: found[name] for name in pairs} == pytest.approx(
        {name: expected[their] for name, their in pairs.items()}
    )
