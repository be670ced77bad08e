"""A training that max_epochs ended too early is said to be one, and no other is."""

from __future__ import annotations

import logging

import pytest

from recbench.experiment.run import run
from recbench.training.convergence import cut_off, run_was_cut_off

SMALL = ["model=sasrec", "model.hidden_size=16", "model.feedforward_size=16", "training.batch_size=200"]


@pytest.mark.parametrize(
    ("schedule", "epochs", "best", "expected"),
    [
        ("constant", 20, 19, True),
        ("constant", 20, 17, True),  # two epochs without a better one, where three would have ended it
        ("constant", 20, 16, False),  # patience ended at the last epoch that was allowed
        ("constant", 12, 8, False),
        ("step", 20, 19, True),
        ("cosine", 20, 19, False),
        ("constant", 0, -1, False),
    ],
)
def test_a_training_is_cut_off_if_neither_patience_nor_its_schedule_ended_it(schedule, epochs, best, expected):
    training = {"max_epochs": 20, "patience": 3, "schedule": schedule}
    assert cut_off(training, {"cost/epochs": epochs, "cost/best_epoch": best}) is expected


def test_what_has_no_epochs_and_what_keeps_its_last_epoch_is_never_cut_off():
    training = {"max_epochs": 20, "patience": 3, "schedule": "constant"}
    rising = {"cost/epochs": 20, "cost/best_epoch": 19}
    assert run_was_cut_off({"training": training, "protocol": {}}, rising)
    assert not run_was_cut_off({"training": training, "protocol": {"fit_on_validation": True}}, rising)
    assert not run_was_cut_off({"training": training, "protocol": {}}, {"test/ndcg@10": 0.1})


@pytest.mark.parametrize(("words", "warned"), [((), True), (("training.schedule=cosine",), False)])
def test_the_training_itself_says_so(run_config, tmp_path, caplog, words, warned):
    with caplog.at_level(logging.WARNING, logger="recbench.training.fit"):
        made = run(run_config(tmp_path, *SMALL, "training.max_epochs=2", *words))
    said = [record.getMessage() for record in caplog.records if "trained to its end" in record.getMessage()]
    assert bool(said) is warned
    if warned:
        assert made.folder.key in said[0]
        assert "training.max_epochs=2" in said[0]
