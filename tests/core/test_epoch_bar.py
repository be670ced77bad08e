"""What a person sees while a model trains: a bar in a terminal, whole lines elsewhere."""

from __future__ import annotations

import logging
import math

import torch

from recbench.core import epoch_bar
from recbench.core.epoch_bar import Progress


def train(shown, epochs=2, steps=3):
    for epoch in range(epochs):
        shown.epoch_starts(epoch, steps)
        for step in range(steps):
            shown.step({"loss": torch.tensor(5.0 * (step + 1))}, step + 1)
        shown.epoch_ends(epoch, loss=5.0 - epoch, value=0.1 + epoch / 10, best=0.2, best_epoch=1)
    shown.close()


def test_without_a_terminal_there_is_one_line_an_epoch(caplog, capsys):
    with caplog.at_level(logging.INFO, "recbench.core.epoch_bar"):
        train(Progress("sasrec-1", 2, "ndcg@10", terminal=False))
    assert [record.getMessage() for record in caplog.records] == [
        "sasrec-1  epoch 1/2  loss 5.0000  validation ndcg@10 0.1000 (best 0.2000, epoch 2)",
        "sasrec-1  epoch 2/2  loss 4.0000  validation ndcg@10 0.2000 (best 0.2000, epoch 2)",
    ]
    assert capsys.readouterr() == ("", "")


def test_an_epoch_without_validation_says_nothing_of_one(caplog):
    shown = Progress("sasrec-1", 2, "ndcg@10", terminal=False)
    with caplog.at_level(logging.INFO, "recbench.core.epoch_bar"):
        shown.epoch_starts(0, 3)
        shown.epoch_ends(0, loss=5.0, value=None, best=-math.inf, best_epoch=-1)
    assert [record.getMessage() for record in caplog.records] == ["sasrec-1  epoch 1/2  loss 5.0000"]


def test_in_a_terminal_a_bar_shows_epoch_loss_validation_and_time_left(monkeypatch, capsys, caplog):
    monkeypatch.setattr(epoch_bar, "REFRESH_SECONDS", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with caplog.at_level(logging.INFO, "recbench.core.epoch_bar"):
        train(Progress("sasrec-1", 2, "ndcg@10", terminal=True))
    out, err = capsys.readouterr()
    assert out == ""  # the results alone go there
    for word in ("sasrec-1", "epoch 2/2", "loss 4.0000", "validation ndcg@10 0.2000", "0:00:00"):
        assert word in err
    assert caplog.records == []  # no line beside the bar


def test_whether_it_is_a_terminal_is_asked_of_stderr(monkeypatch):
    for answer in (True, False):
        monkeypatch.setattr("sys.stderr.isatty", lambda answer=answer: answer, raising=False)
        assert Progress("x", 1, "ndcg@10").terminal is answer


def test_a_bar_that_never_began_can_be_closed():
    Progress("x", 1, "ndcg@10", terminal=True).close()
