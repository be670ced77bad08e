"""A training that starts from a finished run: items by their ids, other tensors by name and shape, and all of it said."""

from __future__ import annotations

import logging

import numpy as np
import polars as pl
import pytest
import torch

from recbench.core.errors import UserError
from recbench.experiment import produce as running
from recbench.experiment.context import RunContext
from recbench.experiment.key import run_key
from recbench.experiment.run import run
from recbench.experiment.warm_start import Matches, take_weights
from recbench.models.weights import load_tensors
from tests.fixtures.words import SASREC, SLMREC

QUICK = ["training.max_epochs=2", "training.batch_size=64", "training.max_length=10", "training.lr=0.01"]


def events(path, items, users, seed):
    generator = np.random.default_rng(seed)
    rows = [
        (f"u{user}", item, place)
        for user in range(users)
        for place, item in enumerate(generator.permutation(items)[:9])
    ]
    pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row").write_csv(path)
    return [f"data.path={path}", "data=table", "data.k_core=0"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Old events over i0..i19, and new ones over i3..i25."""
    folder = tmp_path_factory.mktemp("events")
    old = events(folder / "old.csv", [f"i{n}" for n in range(20)], 30, 0)
    return old, events(folder / "new.csv", [f"i{n}" for n in range(3, 26)], 40, 1)


@pytest.fixture(scope="module")
def words_of(compose, tmp_path_factory):
    from recbench.config.run import RunConfig

    place = tmp_path_factory.mktemp("runs")
    plain = ("tracking=off", "hardware=cpu", f"runs_dir={place}")
    return lambda *words: RunConfig.from_hydra(compose(*plain, *QUICK, *words))


@pytest.fixture(scope="module")
def source(words_of, files):
    return run(words_of(*SASREC, *files[0]))


def names_of(stage):
    return stage.data.item_table()["item"].to_list()


def test_items_take_their_rows_by_id_and_new_ones_start_as_drawn(words_of, files, source, monkeypatch, caplog):
    config = words_of(*SASREC, *files[1], f"training.init_from={source.folder.path}")
    stage, began = RunContext.of(config), {}

    def fit(model, *rest):
        began.update({name: value.clone() for name, value in model.state_dict().items()})
        return original(model, *rest)

    original = running.fit
    monkeypatch.setattr(running, "fit", fit)
    with caplog.at_level(logging.INFO, "recbench"):
        made = run(config, stage)
    stored = load_tensors(source.folder.weights)
    drawn = running.build_model(config, stage, {}).state_dict()
    old = {name: number for number, name in enumerate(names_of(RunContext.of(source.config)), start=1)}
    for number, name in enumerate(names_of(stage), start=1):
        expected = stored["item_embedding.weight"][old[name]] if name in old else drawn["item_embedding.weight"][number]
        assert torch.equal(began["item_embedding.weight"][number], expected)
    others = [name for name in stored if name != "item_embedding.weight"]
    assert all(torch.equal(began[name], stored[name]) for name in others)
    assert len(others) > 5
    figures = {name: value for name, value in made.metrics.items() if name.startswith("init_from/")}
    assert figures == {
        "init_from/items_known": 17,
        "init_from/items_new": 6,
        "init_from/items_gone": 3,
        "init_from/tensors": len(stored),
        "init_from/tensors_left": 0,
    }
    assert "17 of 23 items are known to it, 6 new ones start fresh, 3 of its items are gone" in caplog.text
    # What it cost holds what the source cost.
    cost = "cost/train_seconds"
    assert made.metrics[f"{cost}_with_dependencies"] == pytest.approx(made.metrics[cost] + source.metrics[cost])
    assert made.metrics["dependencies"] == {"init_from": source.folder.key}


def test_weights_that_are_kept_are_those_of_the_source(words_of, files, source):
    config = words_of(*SASREC, *files[0], f"training.init_from={source.folder.path}", "training.keep_weights=true")
    made = run(config)
    ours, theirs = load_tensors(made.folder.weights), load_tensors(source.folder.weights)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert made.metrics["cost/epochs"] == 0
    assert made.metrics["test/mrr"] == pytest.approx(source.metrics["test/mrr"])
    assert made.folder.key not in (source.folder.key, run_key(source.config, RunContext.of(source.config)))


def test_weights_of_nothing_cannot_be_kept(words_of, files):
    with pytest.raises(UserError, match=r"name it by training\.init_from"):
        words_of(*SASREC, *files[0], "training.keep_weights=true")


def test_the_key_holds_the_sources_key_and_no_place(words_of, files, source, tmp_path):
    cold = words_of(*SASREC, *files[1])
    stage = RunContext.of(cold)
    by_path = words_of(*SASREC, *files[1], f"training.init_from={source.folder.path}/")
    by_key = words_of(*SASREC, *files[1], f"training.init_from={source.folder.key}")
    elsewhere = words_of(*SASREC, *files[1], f"training.init_from={tmp_path}/{source.folder.key}")
    another = words_of(*SASREC, *files[1], "training.init_from=sasrec-0123")
    keys = [run_key(config, stage) for config in (cold, by_path, by_key, elsewhere, another)]
    assert keys[1] == keys[2] == keys[3]
    assert len(set(keys)) == 3
    assert run(by_key, stage).folder.key == keys[1]
    assert run(by_path, stage).reused


def test_a_warm_start_is_ahead_after_an_epoch(words_of, files, source):
    """On the same data, one epoch more of a trained model loses less than the first epoch of a fresh one."""
    short = ["training.max_epochs=1"]
    warm = run(words_of(*SASREC, *files[0], *short, f"training.init_from={source.folder.key}"))
    cold = run(words_of(*SASREC, *files[0], *short))
    assert warm.folder.history()[0]["train/loss"] < cold.folder.history()[0]["train/loss"]


def test_tensors_of_another_shape_start_fresh_and_are_named(words_of, files, source, caplog):
    wider = words_of(*SASREC, *files[1], "training.max_length=12", f"training.init_from={source.folder.key}")
    with caplog.at_level(logging.INFO, "recbench"):
        made = run(wider)
    assert "1 start fresh: position_embedding.weight (10×16 there, 12×16 here)" in caplog.text
    assert made.metrics["init_from/tensors_left"] == 1


def test_a_catalogue_as_short_as_the_histories_does_not_confuse_positions():
    class Small(torch.nn.Module):
        def __init__(self, fill):
            super().__init__()
            self.item_embedding = torch.nn.Embedding(4, 2)
            self.position_embedding = torch.nn.Embedding(4, 2)
            for table in self.parameters():
                torch.nn.init.constant_(table, fill)

    here, there = Small(0.0), Small(1.0)
    taken = take_weights(here, there.state_dict(), Matches(torch.tensor([2]), torch.tensor([1]), 3, 3))
    assert here.item_embedding.weight[:, 0].tolist() == [0, 0, 1, 0]
    assert here.position_embedding.weight[:, 0].tolist() == [1, 1, 1, 1]
    assert (taken.items_known, taken.items_new, taken.items_gone) == (1, 2, 2)


def test_what_a_run_needs_starts_on_its_own(words_of, files, source, caplog):
    """A teacher and an item table are trained as ever; the student takes its weights where its item table is the same run."""
    first = run(words_of(*SLMREC, "distillation=none", *files[0]))
    again = words_of(*SLMREC, "distillation=none", *files[0], f"training.init_from={first.folder.key}")
    made = run(again)
    assert made.dependencies["item_table"].reused
    assert made.metrics["init_from/tensors"] > 0
    with pytest.raises(UserError, match=r"was trained over the item_table sasrec-\w+, this run is over sasrec-"):
        run(words_of(*SLMREC, "distillation=none", *files[1], f"training.init_from={first.folder.key}"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["training.init_from=sasrec-absent"],
            "training.init_from=sasrec-absent holds no finished run (its state is 'absent')",
        ),
        (["model=gru4rec", "training.init_from={key}"], "is a run of 'sasrec', not of 'gru4rec'"),
        (["model=popularity", "training.init_from={key}"], "'popularity' is computed, not trained"),
        (
            ["model=sasrec", "model.hidden_size=8", "model.feedforward_size=9", "training.init_from={key}"],
            "none of its tensors fits this model",
        ),
    ],
)
def test_a_source_that_does_not_fit_is_answered_in_one_line(words_of, files, source, words, message):
    words = [word.format(key=source.folder.key) for word in words]
    with pytest.raises(UserError) as caught:
        run(words_of(*([] if words[0].startswith("model=") else SASREC), *files[1], *words))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_source_whose_data_are_gone_is_answered(words_of, files, source, tmp_path):
    import json
    import shutil

    copy = tmp_path / "sasrec-copy"
    shutil.copytree(source.folder.path, copy)
    told = json.loads((copy / "provenance.json").read_text())
    (copy / "provenance.json").write_text(json.dumps({**told, "data_fingerprint": "another"}))
    with pytest.raises(UserError, match="the prepared data of that run are not in"):
        run(words_of(*SASREC, *files[1], f"training.init_from={copy}"))
