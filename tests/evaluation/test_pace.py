"""What is said while something slow is ranked."""

from __future__ import annotations

import logging

import pytest
import torch

from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.split import make_split
from recbench.evaluation import pace
from recbench.evaluation.evaluate import evaluate
from recbench.evaluation.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    """Seconds that go by when they are added here."""
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == pace.__name__]


def test_a_word_comes_after_half_a_minute_and_a_tenth_of_the_way(clock, caplog):
    caplog.set_level(logging.INFO)
    slow = Pace(2000)
    for done in range(50, 2001, 50):
        clock[0] += 20
        slow.to(done)
    lines = said(caplog)
    assert lines[0] == "200 of 2,000 histories ranked, about 12 min left"
    assert lines[-1] == "1,800 of 2,000 histories ranked, about 80 s left"
    assert len(lines) == 9  # none at the end, which is told by what follows


def test_what_is_soon_over_says_nothing(random_data, clock, caplog):
    caplog.set_level(logging.INFO)
    split = make_split(random_data, LeaveOneOutConfig(), None)

    def ranked(seconds):
        def score(batch):
            clock[0] += seconds
            return torch.zeros(len(batch), random_data.n_items + 1)

        evaluate(score, random_data, split.test, split, 5, rows=10)
        return said(caplog)

    assert not ranked(0.1)
    lines = ranked(60.0)
    assert lines
    assert all(f"of {random_data.n_users} histories ranked" in line for line in lines)
