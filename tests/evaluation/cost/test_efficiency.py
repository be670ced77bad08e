"""The clock: what it times, how long it takes itself, and that it leaves no trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbench.evaluation.cost import efficiency
from recbench.evaluation.cost.efficiency import batches_of, measure_efficiency, spread


class Clock:
    """Stands for time.perf_counter: moves only when an answer is given."""

    def __init__(self, monkeypatch, seconds):
        self.now, self.seconds, self.asked = 0.0, seconds, []
        monkeypatch.setattr(efficiency.time, "perf_counter", lambda: self.now)

    def answer(self, batch):
        self.asked.append(len(batch))
        self.now += self.seconds(len(batch))


@pytest.fixture
def take(tiny_data, tiny_split):
    return batches_of(tiny_data, tiny_split.test, 10, "cpu")


@pytest.mark.parametrize(
    ("n", "wanted", "chosen"), [(10, 5, [0, 2, 4, 6, 8]), (3, 5, [0, 1, 2]), (7, 3, [0, 2, 4]), (5, 1, [0])]
)
def test_users_are_spread_evenly_and_none_is_asked_twice(n, wanted, chosen):
    assert spread(n, wanted).tolist() == chosen


def test_batches_hold_the_latest_events_of_the_chosen_histories(take, tiny_data, tiny_split):
    cases = tiny_split.test
    batch = take(np.array([5, 2]))
    assert batch.user.tolist() == cases.user[[5, 2]].tolist()
    for row, case in enumerate((5, 2)):
        history = tiny_data.items[cases.start[case] : cases.end[case]][-10:]
        assert batch.items[row, : batch.lengths[row]].tolist() == history.tolist()


def test_a_fast_answer_is_timed_on_all_that_was_asked_for(monkeypatch, take):
    clock = Clock(monkeypatch, lambda users: 0.001 + 0.0001 * users)
    found = measure_efficiency(clock.answer, take, 160, n_users=40, batch_users=100)
    assert found.latency_p50 == pytest.approx(0.0011)
    assert found.latency_p95 == pytest.approx(0.0011)
    assert (found.timed_users, found.batch_users) == (40, 100)
    assert found.users_per_second == pytest.approx(100 / 0.011)
    assert found.threads == torch.get_num_threads()
    assert (found.batch_p50, found.batch_p99, found.timed_batches) == (pytest.approx(0.011), pytest.approx(0.011), 20)
    warm_up, singles = [1] * efficiency.WARM_UP, [1] * 40
    growing, repeated = [1, 2, 4, 8, 16, 32, 64, 100], [100] * efficiency.REPEATS
    assert clock.asked == [*warm_up, *singles, *growing, *repeated]


def test_percentiles_are_those_of_the_users(monkeypatch, take):
    seconds = iter([9.0] * efficiency.WARM_UP + [k / 1000 for k in range(1, 101)] + [0.001] * 99)
    clock = Clock(monkeypatch, lambda users: next(seconds))
    found = measure_efficiency(clock.answer, take, 160, n_users=100, batch_users=1, budget=100.0)
    assert found.latency_p50 == pytest.approx(0.0505)
    assert found.latency_p95 == pytest.approx(0.09505)
    assert found.latency_p99 == pytest.approx(0.09901)


@pytest.mark.parametrize("seconds", [0.02, 0.2, 3.0])
def test_a_slow_answer_is_timed_on_less(monkeypatch, take, seconds):
    clock = Clock(monkeypatch, lambda users: seconds * users)
    found = measure_efficiency(clock.answer, take, 160, budget=0.5)
    assert found.users_per_second == pytest.approx(1 / seconds)
    assert found.latency_p50 == pytest.approx(seconds)
    assert found.batch_users <= max(1, 0.5 / seconds)
    assert clock.now <= 5 * max(0.5, seconds)
    assert found.timed_users < 100


def test_fewer_users_than_asked_for_are_enough(monkeypatch, take):
    clock = Clock(monkeypatch, lambda users: 0.001)
    found = measure_efficiency(clock.answer, take, 3)
    assert (found.timed_users, found.batch_users) == (3, 3)


def test_the_random_state_is_left_as_it_was(take):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    measure_efficiency(lambda batch: torch.rand(len(batch)), take, 20, n_users=3, batch_users=4)
    assert torch.equal(torch.rand(3), expected)


def test_real_time_is_short(take):
    import time

    started = time.perf_counter()
    found = measure_efficiency(lambda batch: time.sleep(0.002), take, 160)
    assert time.perf_counter() - started < 2
    assert 0.002 <= found.latency_p50 < 0.02
    assert 0 < found.users_per_second <= found.batch_users / 0.002
