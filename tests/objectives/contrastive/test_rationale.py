"""Rationale: histories and the texts about them, and the leak check of the file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.batches import WindowDataset, training_windows
from recbench.data.training import TrainingData
from recbench.models.auxiliary import RationaleConfig
from recbench.models.base import ModelContext
from recbench.models.sequential.sasrec import SASRec, SASRecConfig
from recbench.nn.text.generated import read_texts
from recbench.objectives.contrastive.rationale import Rationale

MADE = {"model": "m", "revision": "1", "prompt": "p", "decode": {}}


@pytest.fixture
def windows(tiny_data, tiny_split):
    return WindowDataset(tiny_data, training_windows(tiny_split.train_start, tiny_split.train_end, 20))


@pytest.fixture
def model(tiny_data):
    torch.manual_seed(0)
    return SASRec(
        SASRecConfig(hidden_size=16, feedforward_size=16, dropout=0.0),
        ModelContext(tiny_data.n_items, tiny_data.n_users, 20),
    )


def written(path, rows, made=MADE):
    path.write_text("\n".join(json.dumps(row) for row in [made, *rows]))
    return str(path)


def texts_of(data, n=60, events=2):
    names = data.user_ids()["user_id"].to_list()
    return [{"user": names[u], "events": events, "text": f"word{u % 7} thing{u % 3} liking{u}"} for u in range(n)]


def build(path, model, windows, **keys):
    config = RationaleConfig(texts=path, **keys)
    config.check("model.rationale")
    torch.manual_seed(2)
    return Rationale(config, model, windows)


def test_a_text_belongs_to_windows_that_show_what_its_writer_read(tmp_path, tiny_data, windows, model):
    rows = texts_of(tiny_data)
    found = build(written(tmp_path / "t.jsonl", rows), model, windows)
    w = windows.windows
    for window in range(len(w.user)):
        assert (found.of_window[window] >= 0) == (
            w.user[window] < 60 and w.start[window] + w.length[window] - tiny_data.offsets[w.user[window]] >= 2
        )


def test_it_pulls_histories_towards_their_texts_and_a_model_ranks_as_before(tmp_path, tiny_data, windows, model):
    path = written(tmp_path / "t.jsonl", texts_of(tiny_data))
    term, batch = build(path, model, windows), windows[np.arange(30)]
    optimizer = torch.optim.AdamW([*model.parameters(), *term.parameters()], lr=1e-2, fused=True)
    losses = []
    for _ in range(12):
        term.draw(batch)
        loss = term.terms(model)["rationale"]
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    assert not any("rationale" in name or "project" in name for name in model.stored_state())
    # Rows that want the same item, and rows of one text, are no negatives: all alike, nothing is left to tell apart.
    same = replace(batch, targets=torch.full_like(batch.targets, 5))
    term.draw(same)
    assert term.terms(model)["rationale"].item() == pytest.approx(0.0, abs=1e-6)
    none = windows[np.flatnonzero(term.of_window < 0)[:5]]
    term.draw(none)
    assert term.terms(model)["rationale"].item() == 0.0


def test_shuffled_texts_are_those_of_others_and_the_content_makes_the_key(tmp_path, tiny_data, windows, model):
    path = written(tmp_path / "t.jsonl", texts_of(tiny_data))
    own, mixed = build(path, model, windows), build(path, model, windows, shuffle=1)
    assert not torch.equal(own.vectors, mixed.vectors)
    torch.testing.assert_close(own.vectors.sum(0), mixed.vectors.sum(0))
    other = written(tmp_path / "u.jsonl", texts_of(tiny_data, n=9))
    copy = written(tmp_path / "v.jsonl", texts_of(tiny_data))
    assert own.config.content == build(copy, model, windows).config.content
    assert own.config.content != build(other, model, windows).config.content


def test_the_leak_check_refuses_by_line(tmp_path, tiny_data, tiny_split):
    train_end = TrainingData.of(tiny_data, tiny_split).end
    names, titles = tiny_data.user_ids()["user_id"].to_list(), tiny_data.item_table()["title"].to_list()
    start, end = int(tiny_data.offsets[3]), int(tiny_data.offsets[4])
    history = set(tiny_data.items[start : start + 2].tolist())
    later = next(item for item in tiny_data.items[start + 2 : end].tolist() if item not in history)

    def read(row, made=MADE):
        return (
            read_texts(tmp_path / "t.jsonl", tiny_data, train_end)
            if written(tmp_path / "t.jsonl", [row], made)
            else None
        )

    row = {"user": names[3], "events": 2, "text": "someone careful"}
    assert [(text.user, text.events) for text in read(row)] == [(3, 2)]
    for changed, message in (
        (
            {"text": f"who will want {titles[later - 1].upper()} soon"},
            r"line 2 fails the leak check: it holds the title",
        ),
        ({"events": int(train_end[3]) - start}, r"line 2 fails the leak check: its writer read .*validation or test"),
        ({"events": 0}, r"fails the leak check"),
        ({"text": 3}, r'line 2: a text needs "user", "events"'),
        ({"user": "nobody"}, r"holds no text of any user"),
    ):
        with pytest.raises(UserError, match=message):
            read({**row, **changed})
    with pytest.raises(UserError, match=r"it lacks revision, decode"):
        read(row, {"model": "m", "prompt": "p"})
    (tmp_path / "t.jsonl").write_text("no json")
    with pytest.raises(UserError, match=r"line 1 is no JSON"):
        read_texts(tmp_path / "t.jsonl", tiny_data, train_end)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, r"model.rationale.texts is missing"),
        ({"texts": "/nowhere/t.jsonl"}, r"is not there"),
        ({"texts": "x", "n_contrasts": 8}, r"leave it at 0"),
        ({"texts": "x", "width": 0}, r"width must be at least 1"),
    ],
)
def test_bad_keys_are_refused_by_name(keys, message):
    with pytest.raises(UserError, match=message):
        RationaleConfig(**keys).check("model.rationale")
