"""First-order Markov chain against sums done by hand and by a loop."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbench.core.errors import UserError
from recbench.models.base import ModelContext
from recbench.models.counting.markov import Markov, MarkovConfig


def test_a_worked_example(training_of, fitted, histories):
    # 1 -> 2 twice and 1 -> 3 once; no step leads from one user to the next.
    train = training_of([[1, 2], [1, 2], [1, 3]], n_items=4)
    model = fitted("markov", train, backoff=0.25)
    scores = model.score(histories([3, 1], [1, 4]))
    popularity = np.array([0, 3, 2, 1, 0]) / 6
    after_1 = 0.75 * np.array([0, 0, 2 / 3, 1 / 3, 0]) + 0.25 * popularity
    assert scores[0].tolist() == pytest.approx(after_1)
    assert scores[1].tolist() == pytest.approx(0.25 * popularity)  # nothing ever followed item 4


def slow_scores(sequences, n_items, last, backoff):
    counts = np.zeros((n_items + 1, n_items + 1))
    popularity = np.zeros(n_items + 1)
    for sequence in sequences:
        for i in sequence:
            popularity[i] += 1
        for i, j in pairwise(sequence):
            counts[i, j] += 1
    row = counts[last] / max(1, counts[last].sum())
    return (1 - backoff) * row + backoff * popularity / popularity.sum()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=7), min_size=1, max_size=6),
    st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.1, 1.0]),
)
def test_equals_a_loop(training_of, fitted, histories, sequences, asked, backoff):
    model = fitted("markov", training_of(sequences, n_items=6), backoff=backoff)
    expected = [slow_scores(sequences, 6, history[-1], backoff) for history in asked]
    np.testing.assert_allclose(model.score(histories(*asked)), np.array(expected), atol=1e-6)


def test_no_training_event_follows_another(training_of, fitted, histories):
    model = fitted("markov", training_of([[1], [2], [2]], n_items=2), backoff=0.3)
    assert model.score(histories([1])).tolist() == [pytest.approx([0, 0.1, 0.2])]


def test_an_empty_history_gets_popularity(training_of, fitted, histories):
    model = fitted("markov", training_of([[1, 2, 2]], n_items=2), backoff=0.3)
    assert model.score(histories([], [1]))[0].tolist() == pytest.approx([0, 0.1, 0.2])
    assert model.score(histories([]))[0].tolist() == pytest.approx([0, 0.1, 0.2])


def test_asking_leaves_the_state_as_it_was(training_of, fitted, histories):
    model = fitted("markov", training_of([[1, 2, 2]], n_items=2))
    first = model.score(histories([1]))
    assert torch.equal(model.score(histories([1])), first)


@pytest.mark.parametrize("backoff", [-0.1, 1.1])
def test_backoff_is_a_weight(backoff):
    with pytest.raises(UserError, match=r"model\.backoff=.* must lie between 0 and 1"):
        Markov(MarkovConfig(backoff=backoff), ModelContext(3, 1, 50))


def test_successors_of_equal_count_may_stand_in_the_order_of_their_first_time(training_of, fitted, histories):
    # After 1: item 4 once, then 2 twice, then 3 once. Tied: 4 and 3.
    train = training_of([[1, 4], [1, 2], [1, 3], [1, 2]], n_items=5)
    tied = fitted("markov", train, backoff=0.0).score(histories([1]))[0]
    assert tied[3] == tied[4]
    ordered = fitted("markov", train, backoff=0.0, first_seen=True).score(histories([1]))[0]
    assert ordered.argsort(descending=True)[:3].tolist() == [2, 4, 3]
    assert (ordered > 0).tolist() == (tied > 0).tolist()
