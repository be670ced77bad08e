"""Made histories: what they are drawn from, and how many events they have."""

import numpy as np
import pytest

from recbench.core.errors import UserError
from recbench.data.training import TrainingData
from recbench.posthoc.probes.sequences import few_users, filled, outlines


@pytest.fixture
def few(tiny_data, tiny_split):
    return few_users(TrainingData.of(tiny_data, tiny_split), 0.2, 10, np.random.default_rng(0))


def test_the_few_are_training_events_of_real_users(few, tiny_data, tiny_split):
    assert len(few.lengths) == round(0.2 * tiny_data.n_users)
    assert few.lengths.max() == 10
    user = np.searchsorted(tiny_data.offsets, few.place, side="right") - 1
    assert (few.place < tiny_split.train_end[user]).all()
    assert (few.items == tiny_data.items[few.place]).all()
    assert (~few.real).sum() == len(few.lengths)  # what follows the last event is not known


@pytest.mark.parametrize("n_events", [1, 37, 400])
def test_made_histories_have_as_many_events_as_the_budget_and_no_real_next_event(few, n_events):
    outline = outlines(few, n_events, np.random.default_rng(1))
    assert outline.offsets[-1] == len(outline.items) == n_events
    assert outline.lengths.min() > 0
    assert not outline.real.any()


def test_markov_steps_are_steps_of_the_few_and_an_even_draw_knows_none(few, tiny_data):
    steps = {(few.items[at], few.items[at + 1]) for at in np.flatnonzero(few.real)}
    led = {before for before, _ in steps}
    outline = outlines(few, 400, np.random.default_rng(1))

    def share(kind):
        made = filled(kind, outline, few, tiny_data.n_items, np.random.default_rng(2))
        within = np.ones(400, dtype=bool)
        within[made.offsets[1:] - 1] = False
        pairs = [(made.items[at], made.items[at + 1]) for at in np.flatnonzero(within) if made.items[at] in led]
        return np.mean([pair in steps for pair in pairs])

    assert share("markov") == 1.0
    assert share("random") < 0.3


def test_as_data_the_histories_are_users(few, tiny_data):
    made = few.data(tiny_data)
    assert made.n_users == len(few.lengths)
    assert (made.timestamps == tiny_data.timestamps[few.place]).all()
    cases = few.cases(np.array([few.offsets[1] + 2]))
    assert (cases.user[0], cases.end[0] - cases.start[0]) == (1, 3)


def test_nobody_is_refused(tiny_data, tiny_split):
    with pytest.raises(UserError, match=r"few=0\.001 of 160 users is fewer than two"):
        few_users(TrainingData.of(tiny_data, tiny_split), 0.001, 10, np.random.default_rng(0))
