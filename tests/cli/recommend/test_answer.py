"""What is recommended is what evaluation ranks, for every model there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbench.cli.recommend.answer import named, recommend
from recbench.cli.recommend.histories import histories_of_users, typed_history
from recbench.cli.recommend.model_of_run import open_model
from recbench.experiment.asking import rank_cases
from recbench.experiment.run import run
from recbench.models.registry import lookup, model_names

NAMES = [name for name in model_names() if lookup(name).model.ranks]


def users(opened, chosen):
    return opened.stage.data.user_ids()["user_id"].gather(list(chosen)).to_list()


@pytest.mark.parametrize("name", NAMES)
def test_every_model_answers_known_users_and_typed_histories(name, opened_of):
    opened = opened_of(name)
    data, split = opened.stage.data, opened.stage.split
    known = histories_of_users(data, split, users(opened, [0, 5, 9]))
    times, kinds = None, None
    if "timestamps" in opened.needs:
        times = ["2026-01-01", "2026-01-02", "2026-01-02T10:30"]
    if "behaviours" in opened.needs:
        kinds = data.manifest["behaviours"][:1] * 3
    raw = data.item_table()["item"].to_list()
    typed = typed_history(data, [raw[3], raw[8], raw[3]], times, kinds, opened.needs)
    answers = recommend(opened, [*known, typed], 5)
    for answer in answers:
        assert len(set(answer.items)) == 5
        assert all(1 <= item <= data.n_items for item in answer.items)
        assert not set(answer.items) & set(answer.history.items.tolist())
        assert answer.scores == sorted(answer.scores, reverse=True)
    # Alone as in company.
    (alone,) = recommend(opened, [typed], 5)
    assert alone.items == answers[-1].items
    assert alone.scores == pytest.approx(answers[-1].scores, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["sasrec", "tim4rec", "tiger", "markov"])
def test_the_lists_are_those_of_the_test(name, opened_of):
    opened = opened_of(name)
    data, split = opened.stage.data, opened.stage.split
    ranked = rank_cases(opened.model, data, split, split.test, opened.config, top_k=10)
    chosen = split.test.user[:40]
    answers = recommend(opened, histories_of_users(data, split, users(opened, chosen), as_in_test=True), 10)
    assert np.array_equal(ranked.top_k[:40], np.array([answer.items for answer in answers]))


def test_seen_items_come_again_where_they_may(opened_of):
    opened = opened_of("popularity")
    data, split = opened.stage.data, opened.stage.split
    history = histories_of_users(data, split, users(opened, [0]))
    (kept,) = recommend(opened, history, data.n_items, mask_seen=False)
    (masked,) = recommend(opened, history, data.n_items, mask_seen=True)
    assert len(kept.items) == data.n_items
    assert set(kept.items) - set(masked.items) == set(history[0].items.tolist())
    # As in the protocol, which masks them.
    assert split.seen_items == "mask"
    assert recommend(opened, history, 5)[0].items == masked.items[:5]


def test_a_list_model_is_asked_for_enough_to_lose_the_seen(opened_of):
    opened = opened_of("tiger", beams=64)
    (answer,) = recommend(opened, histories_of_users(opened.stage.data, opened.stage.split, users(opened, [0])), 40)
    n_seen = len(set(answer.history.items.tolist()))
    assert len(answer.items) == min(40, opened.stage.data.n_items - n_seen)


def test_names_and_titles_are_those_of_the_items(opened_of):
    opened = opened_of("popularity")
    data = opened.stage.data
    (told,) = named(opened, recommend(opened, histories_of_users(data, opened.stage.split, users(opened, [3])), 3))
    table = data.item_table()
    for row in told["items"]:
        assert table.filter(table["item"] == row["item"])["title"].item() == row["title"]
    assert [row["rank"] for row in told["items"]] == [1, 2, 3]


def test_a_stored_run_answers_as_its_test_did(run_config, tmp_path):
    words = [
        "model=sasrec",
        "model.hidden_size=16",
        "model.feedforward_size=16",
        "training.max_epochs=1",
        "training.batch_size=256",
    ]
    made = run(run_config(tmp_path, *words))
    opened = open_model(made.folder.path)
    data, split = opened.stage.data, opened.stage.split
    names = users(opened, split.test.user)
    answers = recommend(opened, histories_of_users(data, split, names, as_in_test=True), 10)
    hits = np.mean([target in answer.items for target, answer in zip(split.test.targets, answers, strict=True)])
    assert hits == pytest.approx(made.metrics["test/hr@10"])


def test_a_model_without_a_number_stops(opened_of):
    from recbench.evaluation.ranking import ScoreError

    opened = opened_of("popularity")
    opened.model.counts = torch.full_like(opened.model.counts, torch.nan)
    with pytest.raises(ScoreError):
        recommend(opened, histories_of_users(opened.stage.data, opened.stage.split, users(opened, [0])), 3)
