"""Values from files of conf/tuned: told, left out by tuned=off, and no part of a key but by what they are."""

from __future__ import annotations

import pytest

from recbench.config.compose import compose
from recbench.config.run import RunConfig
from recbench.config.tuned import held_values, tuned_file, tuned_lines
from recbench.core.errors import UserError
from recbench.experiment.context import RunContext
from recbench.experiment.dependencies import dependency_configs
from recbench.experiment.key import run_key

#: What conf/tuned/sasrec-synthetic.yaml says, as words.
TYPED = ("model.dropout=0.2", "training.lr=0.003", "training.patience=2")


def test_a_run_knows_which_of_its_values_come_from_a_file():
    config = compose(("model=sasrec", "training.lr=0.5"))
    assert config.tuned.name == config.tuned.automatic == "sasrec-synthetic"
    assert held_values(config.as_dict()) == {"model.dropout": 0.2, "training.patience": 2}
    (line,) = tuned_lines(config)
    assert line.startswith("values from tuned/sasrec-synthetic: dropout 0.2, patience 2; overruled: lr")
    assert RunConfig.from_dict(config.as_dict()) == config


def test_off_leaves_them_out_and_says_so():
    config = compose(("model=gru4rec", "tuned=off"))
    assert config.training.lr == 1e-3
    assert tuned_file(config.as_dict()) == ""
    assert tuned_lines(config) == ["tuned=off: values from tuned/gru4rec-synthetic are left out"]
    # Nothing to say where there is no file.
    assert tuned_lines(compose(("model=popularity",))) == tuned_lines(compose(("model=markov", "tuned=off"))) == []


def test_the_key_is_that_of_the_values_wherever_they_come_from(tiny_data, tiny_split):
    stage = RunContext(tiny_data, tiny_split)
    keys = {
        run_key(compose(("model=sasrec", *words)), stage)
        for words in ((), ("tuned=sasrec-synthetic",), ("tuned=off", *TYPED), TYPED)
    }
    assert len(keys) == 1
    assert run_key(compose(("model=sasrec", "tuned=off")), stage) not in keys


def test_off_holds_for_the_runs_that_a_run_needs():
    words = ("model=slmrec", "distillation.teacher.model=slmrec_plain")
    tuned, plain = (dependency_configs(compose((*words, *more))) for more in ((), ("tuned=off",)))
    assert tuned["item_table"].tuned.name == "sasrec-synthetic"
    assert (tuned["item_table"].training.lr, plain["item_table"].training.lr) == (0.003, 0.001)
    assert (tuned["item_table"].model.dropout, plain["item_table"].model.dropout) == (0.2, 0.5)
    assert {part.tuned.name for part in plain.values()} == {"off"}
    assert tuned["teacher"].tuned.name == "slmrec_plain-synthetic" or tuned_file(tuned["teacher"].as_dict())


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("sasrec-sinthetic", "sasrec-synthetic"),
        ("SASREC-Synthetic", "sasrec-synthetic"),
        ("none", "off"),
        ("minne", "mine"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_nearest(tmp_path, monkeypatch, name, near):
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "mine.yaml").write_text("training: {lr: 0.25}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"unknown tuned '{name}'.*did you mean '{near}'"):
        compose(("model=sasrec", f"tuned={name}"))


def test_a_file_in_place_of_the_automatic_one_is_said(tmp_path, monkeypatch):
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "mine.yaml").write_text("training: {lr: 0.25}\n")
    monkeypatch.chdir(tmp_path)
    config = compose(("model=sasrec", "tuned=mine"))
    assert (config.training.lr, config.model.dropout) == (0.25, 0.5)
    (line,) = tuned_lines(config)
    assert "values from ./tuned/mine.yaml: lr 0.25; in place of tuned/sasrec-synthetic" in line
    # For these data there is no automatic file, so nothing is displaced.
    (line,) = tuned_lines(compose(("model=sasrec", "data=movielens", "tuned=mine")))
    assert "in place of" not in line


def test_a_key_of_the_file_is_no_key_to_change():
    with pytest.raises(UserError, match=r"tuned\.name is no key to change.*tuned=NAME"):
        compose(("model=sasrec", "tuned.name=x"))
