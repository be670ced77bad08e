"""Rows of a study that make item codes: their figures stand in the table, and nobody asks them what only a ranking can answer."""

from __future__ import annotations

import csv

import pytest


def rows(*more):
    keys = ["model.levels=2", "model.codebook_size=8"]
    return {"km": ["model=rq_kmeans", *keys], "rnd": ["model=random_ids", *keys, *more]}


def test_their_figures_stand_in_the_table(study, tiny):
    columns = ["tokenizer/distinct", "tokenizer/prefixes_2", "train_seconds"]
    mini = study.write(
        base=tiny, rows=rows(), seeds=[1, 2], columns=columns, reference="km", sampled=True, both_rules=True
    )
    status, out, err, started = mini.run()
    assert status == 0, err
    assert len(started) == 4
    with (study.path / "results.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    for record in found:
        metrics = study.metrics(record["key"])
        assert float(record["tokenizer/distinct"]) == metrics["tokenizer/distinct"]
        assert not record["ndcg@10"]
    line = next(line for line in out.splitlines() if line.startswith("| rnd"))
    prefixes = [float(r["tokenizer/prefixes_2"]) for r in found if r["row"] == "rnd"]
    assert f" {sum(prefixes) / 2:,.0f} ± " in line or f" {sum(prefixes) / 2:.1f} ± " in line
    assert "%" in line


@pytest.mark.parametrize(
    "more", [{"latency": {"rows": ["rnd"]}}, {"search": {"model.collisions": ["digit", "bucket"]}}]
)
def test_there_is_nothing_to_search_by_or_to_time(study, tiny, more):
    status, _, err, started = study.write(base=tiny, rows=rows(), **more).run()
    assert status == 2
    assert "ranks nothing" in err
    assert not started


def test_what_is_not_validated_is_not_searched(study, tiny):
    row = {"overrides": ["model=markov", "evaluation.validate=false"], "search": {"model.backoff": [0.1, 0.5]}}
    status, _, err, started = study.write(base=tiny, rows={"mkv": row}).run()
    assert status == 2
    assert "row 'mkv' is searched by validation: leave out evaluation.validate=false" in err
    assert not started


def test_a_column_of_another_room_is_refused(study, tiny):
    status, _, err, _ = study.write(base=tiny, rows=rows(), columns=["tokeniser/distinct"]).run()
    assert status == 2
    assert "unknown column 'tokeniser/distinct'" in err
