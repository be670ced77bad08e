"""Rows that go on from the run of another row: ``training.init_from=<ROW:run>``."""

from __future__ import annotations

import csv
import shutil

import pytest


def rows_of(study):
    with (study.path / "results.csv").open(newline="") as file:
        return {(line["row"], line["seed"]): line for line in csv.DictReader(file) if line["phase"] == "final"}


ROWS = {
    "again": ["training.init_from=<first:run>", "training.keep_weights=true", "protocol.seen_items=keep"],
    "first": [],
}


def test_a_row_answers_with_the_weights_of_another_row_of_its_seed(study):
    study.write(rows=ROWS, search={}, seeds=[1, 2])
    status, _, err, started = study.run()
    assert status == 0, err
    found = rows_of(study)
    assert [words[0] for words in started]  # four runs were started, the two that train first
    assert len(started) == 4
    assert not any("init_from" in word for words in started[:2] for word in words)
    for seed in ("1", "2"):
        again, first = found["again", seed], found["first", seed]
        assert float(again["train_seconds"]) == 0
        ours, theirs = ((study.runs / line["key"] / "weights.safetensors").read_bytes() for line in (again, first))
        assert ours == theirs
        assert float(again["hr@10"]) <= float(first["hr@10"])  # what was seen stands in the way again
    assert study.run()[::3] == (0, [])


def test_a_row_whose_source_is_told_and_not_here_says_so(study):
    study.write(rows={"first": []}, search={}, seeds=[1])
    assert study.run()[0] == 0
    shutil.rmtree(study.runs)
    study.write(rows=ROWS, search={}, seeds=[1])
    status, _, err, started = study.run("--missing")
    assert (status, started) == (1, [])
    assert "again: no final run, because it goes on from the run of 'first', which is not here" in err
    assert set(rows_of(study)) == {("first", "1")}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({"a": ["training.init_from=<b:run>"]}, "<b:run> names no row"),
        ({"a": ["training.init_from=<b:run>"], "b": ["training.init_from=<a:run>"]}, "circle"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(study, rows, expected):
    status, _, err, started = study.write(rows=rows, search={}, seeds=[1]).run()
    assert (status, started) == (2, [])
    assert expected in err


def test_a_run_that_was_made_for_another_row_is_tested_for_what_its_own_row_asks(study, tiny):
    """No figure that a row asks for beside its own stands in the run's key, so the run is there and lacks it."""
    mixed = ["model=markov", "evaluation.shuffled_histories=true"]
    columns = ["ndcg@10", "shuffled_ndcg@10"]
    first = study.write(base=tiny, rows={"plain": ["model=markov"]}, seeds=[1], columns=columns)
    assert first.run()[0] == 0
    key = rows_of(study)["plain", "1"]["key"]
    assert not any("shuffled" in name for name in study.metrics(key))
    second = study.write(base=tiny, rows={"mixed": mixed}, seeds=[1], columns=columns)
    status, out, err, _ = second.run()
    assert status == 0, err
    assert "shuffled_ndcg@10" in out
    record = rows_of(study)["mixed", "1"]
    assert record["key"] == key
    assert float(record["shuffled_ndcg@10"]) == study.metrics(key)["test/shuffled_ndcg@10"]
    assert second.run()[3] == []
