"""Evaluation from data to ranks: equal to a slow loop, and to itself however the work is cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.protocol import LeaveOneOutConfig, SampledConfig, TemporalConfig
from recbench.data.split import make_split
from recbench.evaluation.blocks import block_rows, is_wide
from recbench.evaluation.evaluate import evaluate, evaluate_lists
from recbench.evaluation.outcome import merge
from recbench.evaluation.ranking import ScoreError

MAX_LENGTH = 5  # most histories of the random data are longer


@pytest.fixture(scope="module")
def table(random_data):
    """[users, n_items + 1] scores with many ties and a pad that scores best."""
    generator = np.random.default_rng(2)
    scores = generator.integers(0, 30, (random_data.n_users, random_data.n_items + 1)).astype(np.float32)
    scores[:, 0] = 1000
    return torch.from_numpy(scores)


def scored(table):
    return lambda batch: table[batch.user]


def same(left, right):
    columns = {**left.table(), "top_k": left.top_k, "top_k_case": left.top_k_case}
    others = {**right.table(), "top_k": right.top_k, "top_k_case": right.top_k_case}
    return all(np.array_equal(columns[name], others[name]) for name in columns)


def config_of(kind, seen_items):
    if kind == "sampled":
        return SampledConfig(n_candidates=20, seen_items=seen_items)
    return LeaveOneOutConfig(seen_items=seen_items)


@pytest.mark.parametrize("kind", ["full", "sampled"])
@pytest.mark.parametrize("seen_items", ["mask", "keep"])
def test_equals_the_slow_ranking_with_the_complete_history(random_data, table, slow_rank, kind, seen_items):
    split = make_split(random_data, config_of(kind, seen_items), None)
    found = evaluate(scored(table), random_data, split.test, split, MAX_LENGTH, rows=10)
    assert len(found.rank) == len(split.test) == random_data.n_users
    for c in range(len(split.test)):
        user = split.test.user[c]
        history = random_data.items[split.test.start[c] : split.test.end[c]].tolist()
        candidates = None if kind == "full" else split.test.candidates[c].tolist()
        seen = set(history) if seen_items == "mask" else set()
        expected = slow_rank(table[user].numpy(), int(split.test.targets[c]), seen, candidates)
        assert (found.rank[c], found.n_equal[c]) == expected
        assert (found.case[c], found.user[c], found.history_length[c]) == (c, user, len(history))
    assert found.n_ranked == (90 if kind == "full" else 21)


@pytest.mark.parametrize("rows", [1, 2, 7, 56, 57, 1000])
def test_block_size_changes_nothing(random_data, table, rows):
    # 57 cases: an uneven last block at 2, 7 and 56.
    split = make_split(random_data, LeaveOneOutConfig(seen_items="mask"), None)
    whole = evaluate(scored(table), random_data, split.test, split, MAX_LENGTH, top_k=8)
    cut = evaluate(scored(table), random_data, split.test, split, MAX_LENGTH, top_k=8, rows=rows)
    assert same(whole, cut)
    assert whole.metrics([5, 10]) == cut.metrics([5, 10])


@pytest.mark.parametrize(("parts", "rows"), [(2, 8), (2, 57), (3, 10), (5, 1), (4, 60)])
def test_parts_together_equal_one_process(random_data, table, parts, rows):
    split = make_split(random_data, LeaveOneOutConfig(seen_items="mask"), None)
    whole = evaluate(scored(table), random_data, split.test, split, MAX_LENGTH, top_k=6, rows=rows)
    pieces = [
        evaluate(scored(table), random_data, split.test, split, MAX_LENGTH, top_k=6, rows=rows, part=part, parts=parts)
        for part in range(parts)
    ]
    assert same(merge(pieces), whole)
    assert sum(len(piece.rank) for piece in pieces) == len(whole.rank)


def test_the_batch_is_cut_to_max_length_but_the_mask_is_not(make_data):
    # The model would recommend item 1, seen long ago; the target 9 comes right behind it.
    data = make_data([[1, 2, 3, 4, 5, 6, 7, 8, 9]] * 2, n_items=9)
    split = make_split(data, LeaveOneOutConfig(), None)
    assert split.seen_items == "mask"

    def score(batch):
        assert batch.items.tolist() == [[7, 8]] * 2
        scores = torch.zeros(2, 10)
        scores[:, 1], scores[:, 9] = 2.0, 1.0
        return scores

    assert evaluate(score, data, split.test, split, max_length=2).rank.tolist() == [1.0, 1.0]
    kept = replace(split, seen_items="keep")
    assert evaluate(score, data, split.test, kept, max_length=2).rank.tolist() == [2.0, 2.0]


def test_a_target_in_its_history_cannot_be_hit_under_mask(make_data):
    data = make_data([[1, 2, 3, 1]], n_items=10)
    split = make_split(data, LeaveOneOutConfig(seen_items="mask"), None)
    best_is_target = torch.arange(11.0).flip(0).expand(1, -1)
    found = evaluate(lambda _: best_is_target, data, split.test, split, 5, top_k=7)
    # Seven unseen items first; the three seen ones share the places 8 to 10.
    assert (found.rank[0], found.n_equal[0]) == (9.0, 3)
    assert 1 not in found.top_k[0]
    assert split.audit["repeated_targets"] == 1.0
    kept = evaluate(lambda _: best_is_target, data, split.test, replace(split, seen_items="keep"), 5)
    assert kept.rank[0] == 1.0


@pytest.mark.parametrize("kind", ["full", "sampled"])
@pytest.mark.parametrize("value", [0.0, -7.0, float("-inf")])
def test_a_constant_model_is_at_chance(random_data, kind, value):
    split = make_split(random_data, config_of(kind, "keep"), None)
    found = evaluate(lambda b: torch.full((len(b), 91), value), random_data, split.test, split, MAX_LENGTH, rows=9)
    n_ranked = 90 if kind == "full" else 21
    assert set(found.rank) == {(n_ranked + 1) / 2}
    metrics = found.metrics([5, 10])
    assert metrics["hr@5"] == metrics["hr@10"] == metrics["ndcg@10"] == 0.0
    assert (metrics["tied"], metrics["ndcg@10_optimistic"], metrics["ndcg@10_pessimistic"]) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("kind", ["full", "sampled"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_bad_score_fails_the_run_and_names_the_user(random_data, table, kind, bad):
    split = make_split(random_data, config_of(kind, "mask"), None)
    broken = table.clone()
    broken[31, 4] = bad
    with pytest.raises(ScoreError, match=f"user 31 for item 4 is {bad}"):
        evaluate(scored(broken), random_data, split.test, split, MAX_LENGTH, rows=8)


def test_a_nan_pad_is_nobodys_business(random_data, table):
    split = make_split(random_data, LeaveOneOutConfig(), None)
    padded = table.clone()
    padded[:, 0] = torch.nan
    whole = evaluate(scored(table), random_data, split.test, split, MAX_LENGTH, top_k=5)
    assert same(whole, evaluate(scored(padded), random_data, split.test, split, MAX_LENGTH, top_k=5))
    assert (whole.top_k > 0).all()


def test_low_precision_scores_make_ties_that_are_reported(random_data):
    split = make_split(random_data, LeaveOneOutConfig(), None)
    fine = torch.from_numpy(np.random.default_rng(0).normal(100, 1, (57, 91)).astype(np.float32))
    exact = evaluate(scored(fine), random_data, split.test, split, MAX_LENGTH).metrics([10])
    coarse = evaluate(scored(fine.bfloat16()), random_data, split.test, split, MAX_LENGTH).metrics([10])
    assert exact["tied"] == 0.0
    assert coarse["tied"] > 0.9
    assert coarse["ndcg@10_optimistic"] > exact["ndcg@10"] > coarse["ndcg@10_pessimistic"]


def test_cutoffs_beyond_the_catalogue(random_data, table):
    split = make_split(random_data, LeaveOneOutConfig(), None)
    found = evaluate(scored(table), random_data, split.test, split, MAX_LENGTH, top_k=500)
    assert found.top_k.shape == (57, 90)
    metrics = found.metrics([500, 90])
    assert metrics["hr@500"] == 1.0
    assert metrics["ndcg@500"] == metrics["ndcg@90"]
    assert found.beyond_accuracy(np.ones(91), [500])["coverage@500"] == 1.0


def test_cases_without_targets_are_skipped_and_counted(random_data, table):
    split = make_split(random_data, LeaveOneOutConfig(), None)
    whole = evaluate(scored(table), random_data, split.test, split, MAX_LENGTH, top_k=3)
    left = np.arange(57) % 4 > 0
    emptied = replace(
        split.test,
        target_offsets=np.concatenate([[0], np.cumsum(left)]),
        targets=split.test.targets[left],
        target_positions=split.test.target_positions[left],
    )
    found = evaluate(scored(table), random_data, emptied, split, MAX_LENGTH, top_k=3, rows=5)
    assert found.cases_without_targets == (~left).sum()
    assert found.case.tolist() == found.top_k_case.tolist() == np.flatnonzero(left).tolist()
    assert found.rank.tolist() == whole.rank[left].tolist()
    assert found.metrics([10])["hr@10"] == pytest.approx((whole.rank[left] <= 10).mean())


def test_several_targets_compete_with_each_other(make_data):
    data = make_data([[1, 2, 3, 4, 5], [1, 2, 3, 4]], [[1, 15, 25, 26, 27], [1, 15, 16, 26]], n_items=6)
    config = TemporalConfig(
        target="all", seen_items="keep", validation_date="1970-01-01T00:00:10", test_date="1970-01-01T00:00:20"
    )
    split = make_split(data, config, None)
    falling = torch.arange(7.0).flip(0)
    found = evaluate(lambda b: falling.expand(len(b), -1), data, split.test, split, 5)
    assert found.target.tolist() == [3, 4, 5, 4]
    assert found.rank.tolist() == [3.0, 4.0, 5.0, 4.0]
    assert found.case.tolist() == [0, 0, 0, 1]
    assert found.metrics([4])["recall@4"] == pytest.approx((2 / 3 + 1) / 2)


def test_lists_that_are_complete_give_the_ranks_of_the_scores(random_data):
    split = make_split(random_data, LeaveOneOutConfig(seen_items="mask"), None)
    unique = torch.from_numpy(np.random.default_rng(0).permuted(np.tile(np.arange(91.0), (57, 1)), axis=1))

    def recommend(batch, k):
        best = unique[batch.user][:, 1:].topk(min(k, 90), dim=1)
        return best.indices + 1, best.values

    by_score = evaluate(scored(unique), random_data, split.test, split, MAX_LENGTH, top_k=5)
    by_list = evaluate_lists(recommend, random_data, split.test, split, MAX_LENGTH, 200, top_k=5, rows=10)
    unseen = by_score.n_equal == 1  # a masked target is in no list
    assert by_list.rank[unseen].tolist() == by_score.rank[unseen].tolist()
    assert not by_list.truncated[unseen].any()
    assert np.array_equal(by_list.top_k, by_score.top_k)


def test_a_target_outside_a_short_list_is_missed_at_every_cutoff_and_flagged(random_data):
    split = make_split(random_data, LeaveOneOutConfig(seen_items="keep"), None)
    found = evaluate_lists(
        lambda b, k: (torch.zeros(len(b), k, dtype=torch.int64), torch.zeros(len(b), k)),
        random_data,
        split.test,
        split,
        MAX_LENGTH,
        10,
    )
    assert set(found.rank) == {np.inf}
    metrics = found.metrics([10, 500])  # also at a cutoff that covers the catalogue
    assert metrics["truncated"] == 1.0
    assert [metrics[name] for name in ("hr@10", "hr@500", "ndcg@500", "mrr@500", "mrr", "tied")] == [0.0] * 6


def test_places_that_hold_no_item_are_counted_for_each_cutoff(random_data):
    split = make_split(random_data, LeaveOneOutConfig(seen_items="keep"), None)

    def recommend(batch, k):
        """Items 1, none, 2, and behind the third place nothing: an empty place is not an invalid one."""
        items = torch.zeros(len(batch), k, dtype=torch.int64)
        items[:, 0], items[:, 2] = 1, 2
        scores = torch.full((len(batch), k), -torch.inf)
        scores[:, :3] = torch.tensor([3.0, 2.0, 1.0])
        return items, scores

    found = evaluate_lists(recommend, random_data, split.test, split, MAX_LENGTH, 10)
    metrics = found.metrics([1, 2, 10])
    assert [metrics[f"invalid@{k}"] for k in (1, 2, 10)] == [0.0, 0.5, 0.1]
    assert set(found.rank) <= {1.0, 3.0, np.inf}
    scored_ranks = evaluate(scored(torch.rand(57, 91)), random_data, split.test, split, MAX_LENGTH)
    assert not any(name.startswith("invalid") for name in scored_ranks.metrics([10]))


def test_lists_cannot_be_ranked_among_candidates(random_data):
    split = make_split(random_data, SampledConfig(n_candidates=20), None)
    with pytest.raises(UserError, match="leave_one_out-uniform20"):
        evaluate_lists(lambda b, k: (b.items, b.items), random_data, split.test, split, MAX_LENGTH, 10)


def test_gradients_are_not_kept(random_data):
    split = make_split(random_data, LeaveOneOutConfig(), None)
    weight = torch.ones(91, requires_grad=True)

    def score(batch):
        scores = weight * torch.ones(len(batch), 1)
        assert not scores.requires_grad
        return scores

    evaluate(score, random_data, split.test, split, MAX_LENGTH)


def test_blocks_are_bounded_by_scores_and_by_positions():
    for n_items, max_length in [(100, 50), (12_101, 50), (12_101, 500), (5_000_000, 50), (50_000_000, 4000)]:
        rows = block_rows(n_items, max_length)
        assert rows >= 1
        scores = 1 << (25 if is_wide(n_items) else 23)
        assert rows == 1 or (rows * (n_items + 1) <= scores and rows * max_length <= 1 << 16)
