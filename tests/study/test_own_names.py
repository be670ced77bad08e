"""Columns of figures that stand under names of their own: of promoted items, of items that are seldom met, and of rerankers."""

from __future__ import annotations

import csv


def test_they_are_recorded_and_shown(study, tiny):
    rows = {name: [f"model={name}", "attack=none", "attack.n_targets=3"] for name in ("markov", "popularity")}
    columns = ["ndcg@10", "attack/t_hr@50", "attack/median_rank", "tail/ndcg@10"]
    mini = study.write(base=tiny, rows=rows, seeds=[1], columns=columns, reference="popularity")
    status, out, err, _ = mini.run()
    assert status == 0, err
    with (study.path / "results.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    for record in found:
        metrics = study.metrics(record["key"])
        for name in columns[1:3]:
            assert float(record[name]) == metrics[name]
        assert record["tail/ndcg@10"] == str(metrics.get("tail/ndcg@10", ""))
    assert "| attack/median_rank |" in out


def test_a_reranker_shows_how_many_targets_it_could_have_ranked(study, tiny):
    rows = {
        "popularity": ["model=popularity"],
        "prompted": ["model=prompted", "model.k=5", "model.retriever.model=markov"],
    }
    columns = ["hr@10", "retriever_order_ndcg@10", "candidate_recall"]
    mini = study.write(base=tiny, rows=rows, seeds=[1], columns=columns, reference="popularity")
    status, out, err, _ = mini.run()
    assert status == 0, err
    with (study.path / "results.csv").open(newline="") as file:
        found = {record["row"]: record for record in csv.DictReader(file)}
    metrics = study.metrics(found["prompted"]["key"])
    assert float(found["prompted"]["candidate_recall"]) == metrics["test/candidate_recall"] > 0
    assert not found["popularity"]["candidate_recall"]
    assert "| candidate_recall |" in out
