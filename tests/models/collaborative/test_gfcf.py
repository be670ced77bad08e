"""GF-CF against the dense formula of the paper."""

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.models.base import ModelContext
from recbench.models.collaborative.gfcf import GFCF, GFCFConfig, inverse_root, strongest

SEQUENCES = [[1, 2, 3], [2, 3, 2], [4, 5], [1, 5, 4, 3], [6, 1], [2, 6, 5], [3]]
N_ITEMS = 7  # the last one has no training event


def dense(directions: int, low_pass: float, asked: list[list[int]]) -> np.ndarray:
    """Both terms written out in float64, with all singular vectors from a dense decomposition."""
    matrix = np.zeros((len(SEQUENCES), N_ITEMS + 1))
    for user, items in enumerate(SEQUENCES):
        matrix[user, items] = 1
    users, items = matrix.sum(1), matrix.sum(0)
    graph = inverse_root(users)[:, None] * matrix * inverse_root(items)
    vectors = np.linalg.svd(graph)[2][:directions].T
    history = np.zeros((len(asked), N_ITEMS + 1))
    for row, seen in enumerate(asked):
        history[row, seen] = 1
    smooth = (history * inverse_root(items)) @ vectors @ vectors.T * np.sqrt(items)
    return history @ graph.T @ graph + low_pass * smooth


@pytest.mark.parametrize(("directions", "low_pass"), [(3, 0.3), (2, 1.0), (0, 0.3), (4, 0.0)])
def test_scores_equal_the_formula(training_of, fitted, histories, directions, low_pass):
    model = fitted("gfcf", training_of(SEQUENCES, n_items=N_ITEMS), directions=directions, low_pass=low_pass)
    asked = [[1, 2], [5], [3, 4, 6], [2, 2, 1]]
    expected = dense(directions, low_pass, asked)
    np.testing.assert_allclose(model.score(histories(*asked)).numpy(), expected, atol=2e-6)


def test_an_item_without_training_has_no_say_and_no_score(training_of, fitted, histories):
    model = fitted("gfcf", training_of(SEQUENCES, n_items=N_ITEMS), directions=3)
    scores = model.score(histories([7], [1, 7], [1]))
    assert not scores[0].any()
    assert torch.equal(scores[1], scores[2])
    assert not scores[:, 7].any()


def test_more_directions_than_the_graph_has_are_cut(training_of, fitted, histories):
    few, many = (fitted("gfcf", training_of(SEQUENCES, n_items=N_ITEMS), directions=n) for n in (6, 900))
    assert many.basis.shape == (N_ITEMS + 1, min(len(SEQUENCES), N_ITEMS + 1) - 1)
    torch.testing.assert_close(few.score(histories([1, 2])), many.score(histories([1, 2])))


def test_the_same_directions_at_every_call():
    from scipy import sparse

    graph = sparse.random_array((40, 30), density=0.2, rng=np.random.default_rng(1), format="csr")
    assert np.array_equal(strongest(graph, 5), strongest(graph, 5))
    assert strongest(graph, 0).shape == (30, 0)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"directions": -1}, r"model\.directions=-1 must not be"),
        ({"low_pass": -0.1}, r"model\.low_pass=-0\.1 must not be"),
    ],
)
def test_values_that_make_no_sense_are_refused(keys, told):
    with pytest.raises(UserError, match=told):
        GFCF(GFCFConfig(**keys), ModelContext(5, 3, 10))
