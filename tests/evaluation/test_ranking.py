"""The ranking kernel alone: ties, pads, masks, bad values, lists."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recbench.evaluation import ranking
from recbench.evaluation.ranking import (
    ScoreError,
    Seen,
    check_lists,
    check_scores,
    count_above,
    drop_seen,
    rank_from_lists,
    rank_targets,
)

N_ITEMS = 12


def ranks(scores, targets, seen=(), candidates=None):
    """scores: rows of n_items + 1; targets: one list a row; seen: (row, item) pairs."""
    scores = check_scores(torch.tensor(scores), np.arange(len(scores)), len(scores[0]) - 1)
    row = torch.tensor([r for r, items in enumerate(targets) for _ in items])
    item = torch.tensor([item for items in targets for item in items])
    pairs = torch.tensor(sorted(seen), dtype=torch.int64).reshape(-1, 2)
    negatives = None if candidates is None else torch.tensor(candidates)
    rank, n_equal = rank_targets(scores, row, item, Seen(pairs[:, 0], pairs[:, 1]), negatives)
    return rank.tolist(), n_equal.tolist()


def test_by_hand():
    # Items 1..4 score 3, 5, 5, 1; the pad in column 0 scores most of all.
    scores = [[9.0, 3.0, 5.0, 5.0, 1.0]]
    assert ranks(scores, [[1, 2, 3, 4]]) == ([3.0, 1.5, 1.5, 4.0], [1, 2, 2, 1])
    # Item 2 seen: it goes to the end, where it ties with nothing else.
    assert ranks(scores, [[1, 2, 3, 4]], seen=[(0, 2)]) == ([2.0, 4.0, 1.0, 3.0], [1, 1, 1, 1])
    # Both 2 and 4 seen: they share the last two places.
    assert ranks(scores, [[2, 4]], seen=[(0, 2), (0, 4)]) == ([3.5, 3.5], [2, 2])
    assert ranks(scores, [[4]], candidates=[[1, 2]]) == ([3.0], [1])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_equals_the_slow_ranking(slow_rank, data):
    # Few distinct values, so that most draws have ties; -inf and a NaN pad among them.
    values = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 2.0])
    n_rows = data.draw(st.integers(1, 4))
    scores = data.draw(hnp.arrays(np.float32, (n_rows, N_ITEMS + 1), elements=values))
    scores[:, 0] = data.draw(st.sampled_from([np.nan, np.inf, 0.5, -np.inf]))
    item = st.integers(1, N_ITEMS)
    targets = [data.draw(st.lists(item, max_size=4, unique=True)) for _ in range(n_rows)]
    seen = [data.draw(st.sets(item)) for _ in range(n_rows)]
    pairs = [(row, i) for row, items in enumerate(seen) for i in items]
    expected = [
        slow_rank(scores[row], target, seen[row]) for row, row_targets in enumerate(targets) for target in row_targets
    ]
    if expected:
        rank, n_equal = ranks(scores, targets, pairs)
        assert list(zip(rank, n_equal, strict=True)) == expected


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_candidates_equal_the_slow_ranking(slow_rank, data):
    scores = data.draw(hnp.arrays(np.float32, (3, N_ITEMS + 1), elements=st.sampled_from([-np.inf, 0.0, 0.5, 2.0])))
    order = [data.draw(st.permutations(range(1, N_ITEMS + 1))) for _ in range(3)]
    targets, candidates = [[row[0]] for row in order], [row[1:6] for row in order]
    seen = [data.draw(st.sets(st.sampled_from(row[:1] + row[6:]))) for row in order]
    pairs = [(row, item) for row, items in enumerate(seen) for item in items]
    expected = [slow_rank(scores[r], targets[r][0], seen[r], candidates[r]) for r in range(3)]
    assert list(zip(*ranks(scores, targets, pairs, candidates), strict=True)) == expected


@given(st.integers(1, 60), st.data())
def test_a_constant_model_is_at_chance_in_any_column(n_items, data):
    target = data.draw(st.integers(1, n_items))
    value = data.draw(st.sampled_from([-np.inf, -3.0, 0.0, 1e30]))
    scores = np.full((1, n_items + 1), value, dtype=np.float32)
    assert ranks(scores, [[target]]) == ([(n_items + 1) / 2], [n_items])


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float32, (3, N_ITEMS + 1), elements=st.integers(-4, 4)), st.permutations(range(N_ITEMS)))
def test_item_order_and_target_column_change_nothing(scores, order):
    permutation = np.array([0, *(i + 1 for i in order)])
    new_id = np.argsort(permutation)
    targets, seen = [[1, 5], [2], [12]], [(0, 3), (0, 5), (1, 1), (2, 12)]
    moved = ranks(
        scores[:, permutation],
        [[int(new_id[item]) for item in items] for items in targets],
        [(row, int(new_id[item])) for row, item in seen],
    )
    assert moved == ranks(scores, targets, seen)


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float32, (2, N_ITEMS + 1), elements=st.integers(-50, 50)))
def test_only_the_order_of_scores_counts(scores):
    targets, seen = [[3, 4], [7]], [(0, 1), (1, 7)]
    base = ranks(scores, targets, seen)
    for transform in (lambda s: 3 * s + 7, lambda s: s**3, lambda s: np.arctan(s.astype(np.float64) / 50)):
        assert ranks(transform(scores).astype(np.float32), targets, seen) == base


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_compared_in_float32(dtype):
    # 256 and 257 are one number in bfloat16: the tie that makes is counted, not broken by column.
    scores = check_scores(torch.tensor([[0.0, 256.0, 257.0, 1.0]], dtype=dtype), np.array([0]), 3)
    assert scores.dtype == torch.float32
    rank, n_equal = rank_targets(scores, torch.tensor([0, 0]), torch.tensor([1, 2]), Seen.nothing())
    assert rank.tolist() == ([1.5, 1.5] if dtype == torch.bfloat16 else [2.0, 1.0])
    assert n_equal.tolist() == ([2, 2] if dtype == torch.bfloat16 else [1, 1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("column", [1, 4, 7])
def test_bad_scores_name_user_item_and_value(bad, column):
    scores = torch.zeros(3, 8)
    scores[1, column] = bad
    with pytest.raises(ScoreError, match=rf"user 41 for item {column} is {bad}; 1 of 3 users"):
        check_scores(scores, np.array([40, 41, 42]), 7)


def test_a_model_of_nothing_but_nan_fails():
    with pytest.raises(ScoreError, match="user 8 for item 1 is nan; 2 of 2"):
        check_scores(torch.full((2, 5), torch.nan), np.array([8, 9]), 4)


def test_float16_overflow_is_a_bad_score():
    with pytest.raises(ScoreError, match="is inf"):
        check_scores(torch.tensor([[0.0, 1e6, 1.0]]).half(), np.array([0]), 2)


@pytest.mark.parametrize("pad", [float("nan"), float("inf"), 1e9, float("-inf")])
def test_the_pad_is_never_ranked_whatever_it_scores(pad):
    assert ranks([[pad, 1.0, 2.0]], [[1, 2]]) == ([2.0, 1.0], [1, 1])


def test_minus_infinity_ranks_last_and_ties():
    assert ranks([[0.0, -np.inf, 1.0, -np.inf]], [[1, 2, 3]]) == ([2.5, 1.0, 2.5], [2, 1, 2])


def test_wrong_shape_is_told():
    with pytest.raises(ScoreError, match=r"shape \(2, 5\), but 2 users x 6 columns"):
        check_scores(torch.zeros(2, 5), np.arange(2), 5)


def test_scores_are_not_written_to():
    # A model may hand out a view of its state, such as one row of counts for everybody.
    counts = torch.tensor([5.0, 1.0, 2.0, 3.0])
    scores = check_scores(counts.expand(2, -1), np.arange(2), 3)
    seen = Seen(torch.tensor([0, 1]), torch.tensor([3, 2]))
    rank, _ = rank_targets(scores, torch.tensor([0, 1]), torch.tensor([1, 1]), seen)
    assert rank.tolist() == [2.0, 2.0]
    assert counts.tolist() == [5.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("tile", [1, 7, 20, 1 << 21])
def test_tiles_do_not_change_counts(monkeypatch, tile):
    monkeypatch.setattr(ranking, "TILE", tile)
    scores = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (9, 20)).astype(np.float32))
    threshold = torch.full((9,), 2.0)
    greater, at_least = count_above(scores, threshold)
    assert greater.tolist() == (scores > 2).sum(1).tolist()
    assert at_least.tolist() == (scores >= 2).sum(1).tolist()


def test_seen_pairs_are_distinct_and_from_the_whole_range():
    seen = Seen.of_histories(np.array([4, 4, 2, 9, 9, 1]), np.array([0, 3, 3]), np.array([3, 3, 6]))
    assert list(zip(seen.row.tolist(), seen.item.tolist(), strict=True)) == [(0, 2), (0, 4), (2, 1), (2, 9)]


def test_lists_rank_by_first_place_and_misses_are_flagged():
    items = torch.tensor([[3, 0, 5, 3], [1, 2, 2, 4]])
    scores = -torch.arange(4.0).expand(2, 4)
    rank, n_equal, truncated = rank_from_lists(items, scores, torch.tensor([0, 0, 1, 1]), torch.tensor([3, 5, 2, 9]))
    assert rank.tolist() == [1.0, 3.0, 2.0, torch.inf]
    assert n_equal.tolist() == [1, 1, 1, 1]
    assert truncated.tolist() == [False, False, False, True]


def test_places_of_equal_score_share_their_mean():
    """As the items of a bucket do: the list must not win by the order of their ids."""
    items, scores = torch.tensor([[7, 2, 9, 4, 0]]), torch.tensor([[3.0, 1.0, 1.0, 1.0, -torch.inf]])
    rank, n_equal, _ = rank_from_lists(items, scores, torch.tensor([0, 0, 0]), torch.tensor([7, 2, 4]))
    assert rank.tolist() == [1.0, 3.0, 3.0]
    assert n_equal.tolist() == [1, 3, 3]


def test_seen_items_leave_lists_and_the_rest_moves_up():
    items = torch.tensor([[3, 1, 5, 2], [3, 1, 0, 2]])
    seen = Seen(torch.tensor([0, 0, 1]), torch.tensor([3, 5, 2]))
    kept, scores = drop_seen(items, torch.tensor([[4.0, 3, 2, 1], [8, 7, 6, 5]]), seen, 9)
    assert kept.tolist() == [[1, 2, 0, 0], [3, 1, 0, 0]]
    # The third place of the second row was an id that no item has: it keeps its place and its score.
    assert scores.tolist() == [[3.0, 1.0, -torch.inf, -torch.inf], [8.0, 7.0, 6.0, -torch.inf]]


@pytest.mark.parametrize(
    ("items", "words"), [([[1, 8]], "ids from 1 to 8; valid are 0"), ([[-1, 2]], "from -1"), ([[1], [2]], "one list")]
)
def test_impossible_lists_are_refused(items, words):
    with pytest.raises(ScoreError, match=words):
        check_lists(torch.tensor(items), torch.zeros(len(items), len(items[0])), 1, 7)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([[0.0]], "a score for each place"),
        ([[0.0, torch.nan]], "NaN"),
        ([[torch.inf, 0.0]], "inf"),
        ([[0.0, 1.0]], "best first"),
    ],
)
def test_impossible_scores_of_a_list_are_refused(scores, words):
    with pytest.raises(ScoreError, match=words):
        check_lists(torch.tensor([[1, 2]]), torch.tensor(scores), 1, 7)
