"""iALS against its normal equations written out, and against the loss that they minimise."""

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.models.base import ModelContext
from recbench.models.collaborative import ials
from recbench.models.collaborative.ials import IALS, IALSConfig, alike

DRAW = np.random.default_rng(3)
SEQUENCES = [(DRAW.permutation(12)[: DRAW.integers(1, 9)] + 1).tolist() for _ in range(25)]
N_ITEMS = 14  # the last two have no training event
KEYS = {"factors": 5, "regularisation": 0.05, "unobserved_weight": 0.3}


def solved(items: np.ndarray, seen: list[int], nu: float) -> np.ndarray:
    """The vector of one history by a dense solve in float64."""
    own = items[sorted(set(seen))]
    penalty = KEYS["regularisation"] * (len(own) + KEYS["unobserved_weight"] * N_ITEMS) ** nu
    matrix = KEYS["unobserved_weight"] * items.T @ items + own.T @ own + penalty * np.eye(items.shape[1])
    return np.linalg.solve(matrix, own.sum(0))


@pytest.mark.parametrize("nu", [0.0, 0.7, 1.0])
def test_a_history_has_the_vector_of_its_ridge_solve(training_of, fitted, histories, nu):
    model = fitted("ials", training_of(SEQUENCES, n_items=N_ITEMS), frequency_exponent=nu, sweeps=3, **KEYS)
    asked = [[1, 4, 4, 2], [9], [3, 5, 7, 8, 1]]
    items = model.items.double().numpy()
    expected = np.stack([solved(items, seen, nu) for seen in asked])
    np.testing.assert_allclose(model.user_states(histories(*asked)).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(model.score(histories(*asked)).numpy(), expected @ items.T, atol=1e-5)


def test_a_sweep_solves_both_sides(training_of, fitted, monkeypatch):
    train = training_of(SEQUENCES, n_items=N_ITEMS)
    few, more = (fitted("ials", train, sweeps=n, **KEYS).items.double().numpy() for n in (2, 3))
    users = np.stack([solved(few, seen, 1.0) for seen in SEQUENCES])
    for item in range(1, N_ITEMS + 1):
        own = users[[user for user, seen in enumerate(SEQUENCES) if item in seen]]
        penalty = KEYS["regularisation"] * (len(own) + KEYS["unobserved_weight"] * len(users))
        matrix = KEYS["unobserved_weight"] * users.T @ users + own.T @ own + penalty * np.eye(5)
        np.testing.assert_allclose(more[item], np.linalg.solve(matrix, own.sum(0)), atol=1e-4)
    monkeypatch.setattr(ials, "VALUES_AT_ONCE", 1)  # every row a block of its own
    np.testing.assert_allclose(fitted("ials", train, sweeps=3, **KEYS).items.numpy(), more, atol=1e-5)


def loss_of(items: np.ndarray) -> float:
    users = np.stack([solved(items, seen, 1.0) for seen in SEQUENCES])
    scores = users @ items.T
    seen = np.zeros_like(scores, bool)
    for user, own in enumerate(SEQUENCES):
        seen[user, own] = True
    weight, alpha = KEYS["regularisation"], KEYS["unobserved_weight"]
    value = ((1 - scores[seen]) ** 2).sum() + alpha * (scores**2).sum()
    value += weight * ((seen.sum(1) + alpha * N_ITEMS) * (users**2).sum(1)).sum()
    return float(value + weight * ((seen.sum(0) + alpha * len(users))[1:] * (items[1:] ** 2).sum(1)).sum())


def test_the_loss_falls_with_every_sweep(training_of, fitted):
    train = training_of(SEQUENCES, n_items=N_ITEMS)
    losses = [loss_of(fitted("ials", train, sweeps=n, **KEYS).items.double().numpy()) for n in (1, 2, 4, 8, 16)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1] * 1.01


def test_items_without_training_have_no_vector_and_the_seed_decides_the_start(training_of, fitted, histories):
    model = fitted("ials", training_of(SEQUENCES, n_items=N_ITEMS), **KEYS)
    assert not model.items[[0, 13, 14]].any()
    assert not model.score(histories([13])).any()
    context = {"n_items": N_ITEMS, "n_users": 25, "max_length": 50}
    one, other = (IALS(IALSConfig(sweeps=1, factors=5), ModelContext(**context, seed=seed)) for seed in (1, 2))
    for each in (one, other):
        each.fit_to(training_of(SEQUENCES, n_items=N_ITEMS))
    assert not torch.equal(one.items, other.items)


def test_blocks_hold_every_row_once_and_pad_little():
    length = np.random.default_rng(0).integers(0, 200, 3000)
    blocks = list(alike(length, 16))
    rows = np.concatenate([chosen for chosen, _ in blocks])
    assert sorted(rows.tolist()) == np.flatnonzero(length).tolist()
    assert all(width == length[chosen].max() for chosen, width in blocks)
    assert sum(width * len(chosen) for chosen, width in blocks) < 1.3 * length.sum()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"factors": 0}, r"model\.factors=0 must be at least 1"),
        ({"sweeps": 0}, r"model\.sweeps=0 must be at least 1"),
        ({"unobserved_weight": 0.0}, r"model\.unobserved_weight=0 must be positive"),
        ({"regularisation": float("nan")}, r"model\.regularisation=nan must be positive"),
        ({"frequency_exponent": 2.0}, r"model\.frequency_exponent=2 must lie"),
    ],
)
def test_values_that_make_no_sense_are_refused(keys, told):
    with pytest.raises(UserError, match=told):
        IALS(IALSConfig(**keys), ModelContext(5, 3, 10))
