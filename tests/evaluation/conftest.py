"""Small data sets and a slow, obviously right ranking to compare with."""

from collections.abc import Callable

import numpy as np
import pytest

from recbench.data.store import PreparedData


@pytest.fixture(scope="session")
def make_data(tmp_path_factory) -> Callable[..., PreparedData]:
    """make_data(histories, times=None, n_items=None): histories is a list of item ids for each user."""

    def make(histories, times=None, n_items=None):
        items = np.array([item for history in histories for item in history])
        stamps = None if times is None else np.array([time for user in times for time in user])
        offsets = np.cumsum([0] + [len(history) for history in histories])
        return PreparedData.from_arrays(tmp_path_factory.mktemp("data"), items, offsets, stamps, n_items=n_items)

    return make


@pytest.fixture(scope="session")
def random_data(make_data) -> PreparedData:
    """57 users with 3 to 40 events over 90 items, with repeats."""
    generator = np.random.default_rng(1)
    return make_data([generator.integers(1, 91, generator.integers(3, 41)).tolist() for _ in range(57)], n_items=90)


@pytest.fixture(scope="session")
def slow_rank() -> Callable[..., tuple[float, int]]:
    """slow_rank(scores [n_items + 1], target, seen, candidates=None) -> (rank, n_equal), one comparison at a time."""

    def rank(scores, target, seen, candidates=None):
        ranked = range(1, len(scores)) if candidates is None else [target, *candidates]
        values = {item: -np.inf if item in seen else float(scores[item]) for item in ranked}
        greater = sum(value > values[target] for value in values.values())
        equal = sum(value == values[target] for value in values.values())
        return 1 + greater + (equal - 1) / 2, equal

    return rank
