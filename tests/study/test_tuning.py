"""Rows that Optuna tunes: the same budget for each, told in the table, and looked up the second time."""

from __future__ import annotations

import csv

import pytest

from recbench.core.errors import UserError
from recbench.study.definition import load_study

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")


@pytest.fixture
def in_process(monkeypatch):
    """Tunings in this process, where imports are paid once; returns the arguments of each."""
    from recbench.cli.tune import main

    started = []

    def run(words, jobs, log):
        started.append(words)
        return main(words)

    monkeypatch.setattr("recbench.study.tuning.run_tuning", run)
    return started


def test_rows_get_the_same_budget_and_the_table_tells_what_it_brought(study, in_process, tiny):
    """Two rows of two trials and a final run of another seed (15 s)."""
    small = [
        "model=sasrec",
        "model.feedforward_size=16",
        "model.n_layers=1",
        "model.dropout=0.2",
        "training.max_epochs=2",
    ]
    study.write(
        base=tiny,
        seeds=[1, 2],
        tune={"trials": 2},
        # What is set is not searched: the learning rate is left.
        rows={
            "wide": [*small, "model.hidden_size=16"],
            "narrow": [*small, "model.hidden_size=8"],
            "floor": {"overrides": ["model=popularity"], "tune": False},
        },
        columns=["ndcg@10"],
    )
    status, out, err, _ = study.run()
    assert status == 0, err
    assert len(in_process) == 2
    assert all("--trials=2" in words and "--no-file" in words for words in in_process)
    (heading,) = [line for line in out.splitlines() if line.startswith("| row")]
    assert "budget | best_validation" in heading
    found = list(csv.DictReader((study.path / "results.csv").open(newline="")))
    for row in found:
        if row["row"] == "floor":
            assert row["budget"] == ""
            continue
        assert row["budget"].startswith("2 trials, 0 given up")
        assert row["tuned"] == f"training.lr={float(row['training.lr']):.4g}"
        if row["seed"] == "1":  # the trial itself
            assert float(row["best_validation"]) == pytest.approx(float(row["validation_ndcg@10"]), abs=1e-4)
    assert {row["seed"] for row in found if row["row"] == "wide"} == {"1", "2"}
    status, again, _, started = study.run()
    assert (status, len(in_process), started) == (0, 2, [])  # the budget is spent
    assert out.endswith(again)  # before it stand the words of the tunings, which have a file of their own otherwise


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"tune": {"trails": 3}}, "did you mean 'trials'"),
        ({"tune": {"trials": 0}}, "tune must be such as"),
        ({"tune": {"trials": 3}, "search": {"training.lr": [1, 2]}}, "no search of its own"),
        ({"rows": {"one": {"overrides": [], "tune": True}}}, "equal for all rows"),
    ],
)
def test_what_cannot_be_tuned_is_told(study, content, message):
    study.write(**{"rows": {"one": []}, **content})
    with pytest.raises(UserError, match=message):
        load_study(study.path / "study.yaml")
