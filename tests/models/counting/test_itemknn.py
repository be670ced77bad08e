"""Item neighbours against sums done by hand and by a loop."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbench.core.errors import UserError
from recbench.models.base import ModelContext
from recbench.models.counting import itemknn
from recbench.models.counting.itemknn import ItemKNN, ItemKNNConfig


def test_a_worked_example(training_of, fitted, histories):
    # Items 1 and 2 share two users, 1 and 3 one; 1 has three users, 2 has two, 3 has one. Meeting an item twice changes nothing.
    train = training_of([[1, 2, 2], [1, 2], [1, 3]], n_items=4)
    model = fitted("itemknn", train, shrinkage=1.0)
    s12, s13 = 2 / (6**0.5 + 1), 1 / (3**0.5 + 1)
    assert model.score(histories([1], [2, 3], [4])).tolist() == [
        pytest.approx([0, 0, s12, s13, 0]),
        pytest.approx([0, s12 + s13, 0, 0, 0]),
        [0, 0, 0, 0, 0],
    ]


def test_only_the_nearest_neighbours_stay_and_ties_go_to_the_lower_id(training_of, fitted, histories):
    train = training_of([[1, 2, 3], [1, 3, 4], [1, 4, 2], [2]], n_items=4)
    scores = fitted("itemknn", train, neighbours=1, shrinkage=0.0).score(histories([1]))
    # 3 and 4 are equally near to 1, nearer than the more common 2.
    assert scores.tolist() == [pytest.approx([0, 0, 0, 2 / 6**0.5, 0])]


def test_later_events_weigh_more_with_decay(training_of, fitted, histories):
    train = training_of([[1, 3], [2, 4]], n_items=4)
    model = fitted("itemknn", train, shrinkage=0.0, decay=0.5)
    assert model.score(histories([1, 2], [2])).tolist() == [[0, 0, 0, 0.5, 1], [0, 0, 0, 0, 1]]


def slow_scores(sequences, n_items, history, k, shrinkage, decay):
    sets = [set(sequence) for sequence in sequences]
    users = {i: sum(i in s for s in sets) for i in range(1, n_items + 1)}
    scores = np.zeros(n_items + 1)
    for age, i in enumerate(reversed(history)):
        near = []
        for j in users:
            both = sum(i in s and j in s for s in sets)
            if j != i and both:
                near.append((both / ((users[i] * users[j]) ** 0.5 + shrinkage), j))
        for similarity, j in sorted(near, key=lambda pair: (-pair[0], pair[1]))[:k]:
            scores[j] += decay**age * similarity
    return scores


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=6), min_size=1, max_size=8),
    st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(1, 6),
    st.sampled_from([0.0, 2.0]),
    st.sampled_from([1.0, 0.7]),
    st.sampled_from([1, 10**6]),
)
def test_equals_a_loop(training_of, fitted, histories, sequences, asked, k, shrinkage, decay, pairs_at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(itemknn, "PAIRS_AT_ONCE", pairs_at_once)  # 1: every item is a block of its own
        model = fitted("itemknn", training_of(sequences, n_items=6), neighbours=k, shrinkage=shrinkage, decay=decay)
    expected = [slow_scores(sequences, 6, history, k, shrinkage, decay) for history in asked]
    np.testing.assert_allclose(model.score(histories(*asked)), np.array(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"neighbours": 0}, "neighbours=0 must be at least 1"),
        ({"shrinkage": -1.0}, "shrinkage=-1 must not be negative"),
        ({"decay": 0.0}, "decay=0 must lie above 0"),
        ({"decay": 1.5}, r"decay=1\.5 must lie above 0"),
    ],
)
def test_settings_without_meaning_are_refused(keys, message):
    with pytest.raises(UserError, match=message):
        ItemKNN(ItemKNNConfig(**keys), ModelContext(3, 1, 50))
