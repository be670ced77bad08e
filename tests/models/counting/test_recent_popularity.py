"""Recent popularity: an event counts half for each half-life that it lies before the end of training."""

import pytest

from recbench.core.errors import UserError
from recbench.models.base import ModelContext
from recbench.models.counting.recent_popularity import RecentPopularity, RecentPopularityConfig

DAY = 86_400


def test_an_event_one_half_life_old_counts_half(training_of, fitted, histories):
    times = [[0, 10 * DAY], [10 * DAY, 20 * DAY]]
    model = fitted("recent_popularity", training_of([[1, 2], [1, 3]], n_items=4, times=times), half_life_days=10.0)
    # item 1: 1/4 (20 days ago) + 1/2 (10 days ago); item 2: 1/2; item 3: 1
    assert model.score(histories([1], [2])).tolist() == [pytest.approx([0, 0.75, 0.5, 1.0, 0])] * 2


def test_a_long_half_life_is_plain_popularity(training_of, fitted, histories):
    train = training_of([[1, 2, 2, 3], [3, 3]], n_items=3, times=[[0, 1, 2, 3], [5 * DAY, 9 * DAY]])
    recent = fitted("recent_popularity", train, half_life_days=1e9).score(histories([1]))
    assert recent.tolist() == [pytest.approx([0, 1, 2, 3])]


def test_very_old_events_fade_to_zero_and_not_to_nan(training_of, fitted, histories):
    train = training_of([[1, 2]], n_items=2, times=[[0, 100_000 * DAY]])
    assert fitted("recent_popularity", train, half_life_days=1.0).score(histories([1])).tolist() == [[0, 0, 1]]


def test_it_needs_timestamps():
    assert RecentPopularity.requires == {"timestamps"}


@pytest.mark.parametrize("half_life", [0.0, -1.0, float("nan")])
def test_a_half_life_must_be_positive(half_life):
    with pytest.raises(UserError, match=r"model\.half_life_days=.* must be positive"):
        RecentPopularity(RecentPopularityConfig(half_life_days=half_life), ModelContext(3, 1, 50))
