"""When to say how far something slow is, and what is said."""

from __future__ import annotations

import logging

import pytest
import torch

from recbench.core import pace
from recbench.core.epoch_bar import Progress as Training
from recbench.core.pace import Pace
from recbench.core.transfer_bar import Progress as Transfer
from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.split import make_split
from recbench.evaluation.evaluate import evaluate


@pytest.fixture
def clock(monkeypatch):
    """Seconds that go by when they are added here."""
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "recbench")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_word_comes_after_half_a_minute_and_a_tenth_of_the_way(clock):
    slow, words = Pace(2000), []
    for done in range(50, 2001, 50):
        clock[0] += 20
        if slow.due(done):
            words.append((done, slow.left(done)))
    assert words[0] == (200, "12 min")
    assert words[-1] == (1800, "80 s")
    assert len(words) == 9  # none at the end, which is told by what follows


def test_what_goes_on_where_it_was_left_is_timed_from_there(clock):
    slow = Pace(100, done=50)
    clock[0] += 100
    assert not slow.due(59)
    assert slow.due(60)
    assert slow.left(60) == "7 min"  # 10 pieces took 100 seconds, 40 are left


def test_without_a_total_seconds_decide(clock):
    slow = Pace(0, interval=5.0)
    assert not slow.due(7)
    clock[0] += 5
    assert slow.due(8)
    assert not slow.due(9)


def test_ranking_says_how_far_it_is(random_data, clock, said):
    split = make_split(random_data, LeaveOneOutConfig(), None)

    def ranked(seconds):
        def score(batch):
            clock[0] += seconds
            return torch.zeros(len(batch), random_data.n_items + 1)

        evaluate(score, random_data, split.test, split, 5, rows=10)
        return said()

    assert not ranked(0.1)  # soon over
    lines = ranked(60.0)
    assert lines
    assert all(f"of {random_data.n_users} histories ranked" in line for line in lines)


def test_a_long_epoch_says_how_far_it_is(clock, said):
    shown = Training("llamarec-1", 2, "ndcg@10", terminal=False)
    shown.epoch_starts(1, 20)
    for step in range(20):
        clock[0] += 25
        shown.step({"loss": torch.tensor(2.0 * (step + 1))}, step + 1)
    lines = said()
    assert lines[0] == "llamarec-1  epoch 2/2  step 2 of 20  loss 2.0000  about 8 min left of the epoch"
    assert len(lines) == 9


def test_a_long_transfer_says_how_far_it_is(clock, said, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    with Transfer("reading x.gz", 40_000_000) as progress:
        for done in range(0, 40_000_001, 1_000_000):
            clock[0] += 1
            progress.to(done)
    lines = said()
    assert lines[0] == "reading x.gz: 4 of 40 MB (10%)"
    assert len(lines) == 8
