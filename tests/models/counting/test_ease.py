"""EASE against the formula of the paper, and what it refuses."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbench.core.errors import UserError
from recbench.models.base import ModelContext
from recbench.models.counting import ease
from recbench.models.counting.ease import EASE, EASEConfig, ease_weights, largest_of_rows
from recbench.models.counting.itemknn import user_item_matrix


def test_a_worked_example(training_of, fitted, histories):
    # Two items, two users: G = [[2 + 1, 1], [1, 1 + 1]], P = [[2, -1], [-1, 3]] / 5, so B_12 = 1/3 and B_21 = 1/2.
    model = fitted("ease", training_of([[1, 2], [1]], n_items=2), regularisation=1.0)
    scores = model.score(histories([1], [2], [1, 2], [1, 1]))
    assert scores.tolist() == [
        pytest.approx([0, 0, 1 / 3]),
        pytest.approx([0, 1 / 2, 0]),
        pytest.approx([0, 1 / 2, 1 / 3]),
        pytest.approx([0, 0, 1 / 3]),  # an item met twice is one item
    ]


def slow_weights(sequences, n_items, regularisation):
    """Equation 8 of the paper in float64, without the pad."""
    x = np.zeros((len(sequences), n_items))
    for user, sequence in enumerate(sequences):
        x[user, np.array(sequence) - 1] = 1
    p = np.linalg.inv(x.T @ x + regularisation * np.eye(n_items))
    b = p / -np.diag(p)
    np.fill_diagonal(b, 0)
    return b


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=7), min_size=1, max_size=9),
    st.sampled_from([0.5, 10.0]),
    st.sampled_from([1, 3, 1024]),
)
def test_weights_equal_the_dense_formula(training_of, sequences, regularisation, block_rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ease, "BLOCK_ROWS", block_rows)
        weights = ease_weights(user_item_matrix(training_of(sequences, n_items=7)), regularisation)
    assert weights.dtype == np.float32
    assert not weights[0].any()
    assert not weights[:, 0].any()
    np.testing.assert_allclose(weights[1:, 1:], slow_weights(sequences, 7, regularisation), atol=2e-6)


def test_scores_are_the_history_times_the_weights(training_of, fitted, histories):
    sequences = [np.random.default_rng(user).permutation(30)[:8] + 1 for user in range(40)]
    model = fitted("ease", training_of(sequences, n_items=30), regularisation=5.0)
    asked = [[3, 1, 3], [30], list(range(1, 11))]
    x = np.zeros((3, 30))
    for row, history in zip(x, asked, strict=True):
        row[np.array(history) - 1] = 1
    expected = x @ slow_weights(sequences, 30, 5.0)
    np.testing.assert_allclose(model.score(histories(*asked))[:, 1:], expected, atol=1e-5)


def test_keep_stores_only_the_largest_weights_of_each_item(training_of, fitted, histories):
    sequences = [np.random.default_rng(user).permutation(12)[:5] + 1 for user in range(40)]
    train = training_of(sequences, n_items=12)
    full = fitted("ease", train).weights
    model = fitted("ease", train, keep=4)
    assert model.weights.shape == model.columns.shape == (13, 4)
    least = full.abs().sort(dim=1, descending=True).values[:, 3:4]
    pruned = torch.where(full.abs() >= least, full, 0.0)
    expected = torch.stack([pruned[2] + pruned[9], pruned[5]])
    torch.testing.assert_close(model.score(histories([2, 9], [5])), expected)


def test_keeping_as_many_as_there_are_is_the_full_model(training_of, fitted, histories):
    train = training_of([[1, 2, 3], [2, 3], [1, 4]], n_items=4)
    asked = histories([1, 2], [4])
    torch.testing.assert_close(fitted("ease", train, keep=100).score(asked), fitted("ease", train).score(asked))
    torch.testing.assert_close(fitted("ease", train, keep=4).score(asked), fitted("ease", train).score(asked))


def test_largest_of_rows_goes_by_size_not_by_sign():
    values, columns = largest_of_rows(np.array([[1.0, -5.0, 2.0], [0.0, 1.0, -2.0]]), 2)
    assert values.tolist() == [[-5.0, 2.0], [1.0, -2.0]]
    assert columns.tolist() == [[1, 2], [1, 2]]


def test_a_catalogue_too_large_for_a_dense_inverse_is_refused_before_any_work():
    with pytest.raises(UserError, match=r"30,000 x 30,000 items, 3\.6 GB; raise model\.max_items above 20,000"):
        EASE(EASEConfig(), ModelContext(30_000, 1, 50))


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"regularisation": 0.0}, "regularisation=0 must be positive"), ({"keep": -1}, "keep=-1 must not be negative")],
)
def test_settings_without_meaning_are_refused(keys, message):
    with pytest.raises(UserError, match=message):
        EASE(EASEConfig(**keys), ModelContext(3, 1, 50))


def test_a_matrix_that_cannot_be_inverted_is_said_to_be_one(training_of, fitted):
    with pytest.raises(UserError, match=r"cannot invert its matrix with model\.regularisation=1e-50"):
        fitted("ease", training_of([[1, 2], [1, 2]], n_items=2), regularisation=1e-50)
