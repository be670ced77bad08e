"""Rows of windows, events and users are the same training events, cut in three ways."""

import numpy as np
import pytest

from recbench.core.errors import UserError
from recbench.data.prepared import PreparedData
from recbench.data.training import TrainingData
from recbench.data.training_rows import epoch_sampler, training_rows


@pytest.fixture
def train(tmp_path):
    items = np.array([1, 2, 3, 4, 5, 1, 2])
    data = PreparedData.from_arrays(tmp_path / "d", items, np.array([0, 4, 5, 5, 7]), np.arange(7), n_items=5)
    return TrainingData(data, data.offsets[:-1], np.array([3, 5, 5, 7]))  # one event of the first user is no training


def test_events_and_users(train):
    events, users = training_rows(train, "events", 2), training_rows(train, "users", 2)
    batch = events[np.arange(len(events))]
    assert (batch.user.tolist(), batch.items.tolist()) == ([0, 0, 0, 1, 3, 3], [[1], [2], [3], [5], [1], [2]])
    assert batch.targets is None
    batch = users[np.arange(len(users))]
    assert (batch.user.tolist(), batch.items.tolist()) == ([0, 1, 3], [[1, 2, 3], [5, 0, 0], [1, 2, 0]])
    assert batch.targets is None
    assert training_rows(train, "windows", 2)[np.arange(2)].targets is not None


def test_uniform_users_draw_users_alike_and_as_many_rows_as_events(train):
    sampler = epoch_sampler(training_rows(train, "events", 2), "users_uniform", 2, seed=3)
    plans = [np.concatenate(sampler.plan(epoch)) for epoch in range(800)]
    assert all(len(plan) == 6 for plan in plans)
    assert np.array_equal(np.concatenate(sampler.plan(5)), plans[5])
    share = np.bincount(np.concatenate(plans), minlength=6) / 4800
    np.testing.assert_allclose(share, [1 / 9, 1 / 9, 1 / 9, 1 / 3, 1 / 6, 1 / 6], atol=0.02)
    assert sorted(np.concatenate(epoch_sampler(training_rows(train, "events", 2), "events", 2, 3).plan(0))) == [
        *range(6)
    ]


@pytest.mark.parametrize(
    ("kind", "rows"),
    [("windows", "events"), ("events", "events"), ("users", "events"), ("events", "users_uniform")],
)
def test_an_epoch_has_as_many_steps_as_are_asked_for_be_they_fewer_or_more(train, kind, rows):
    dataset = training_rows(train, kind, 2)
    n = len(epoch_sampler(dataset, rows, 2, seed=3).plan(0))
    for steps in (1, n + 2):
        sampler = epoch_sampler(dataset, rows, 2, seed=3, steps=steps)
        plans = [sampler.plan(epoch) for epoch in range(20)]
        assert {len(plan) for plan in plans} == {len(sampler)} == {steps}
        assert len({tuple(np.concatenate(plan)) for plan in plans}) > 1, "every epoch draws its own"
    # What one step leaves out has its turn in another epoch.
    one = epoch_sampler(dataset, rows, 2, seed=3, steps=1)
    assert {*np.concatenate([batch for epoch in range(40) for batch in one.plan(epoch)])} == {*range(len(dataset))}


def test_nothing_to_train_on_is_said(train):
    empty = TrainingData(train.data, train.start, train.start)
    for kind, told in (("windows", "no user has two"), ("events", "no training event"), ("users", "no training event")):
        with pytest.raises(UserError, match=told):
            training_rows(empty, kind, 5)


def test_a_step_of_users_has_as_many_users_as_any_other_however_unequal_their_histories(tmp_path):
    lengths = np.array([600, *[2] * 300])
    offsets = np.concatenate([[0], lengths.cumsum()])
    items = np.ones(offsets[-1], dtype=int)
    data = PreparedData.from_arrays(tmp_path / "d", items, offsets, np.arange(len(items)), n_items=5)
    rows = training_rows(TrainingData(data, data.offsets[:-1], data.offsets[1:]), "users", 50)
    sampler = epoch_sampler(rows, "events", 120, seed=3)
    plan = sampler.plan(0)
    assert len(plan) == len(sampler) == 10  # of 1,200 events
    assert {len(batch) for batch in plan} == {30, 31}
    assert sorted(np.concatenate(plan)) == [*range(301)]
    assert any((a != b).any() for a, b in zip(plan, sampler.plan(1), strict=True) if len(a) == len(b))
    halves = [next(iter(epoch_sampler(rows, "events", 120, 3, part, 2))) for part in range(2)]
    for half in halves:  # weighed by users, though one of them may have the 600 events
        assert half.weight == pytest.approx(2 * len(half.windows) / len(plan[0]))
    few = epoch_sampler(rows, "events", 2, 3)
    assert len(few.plan(0)) == len(few) == 301
