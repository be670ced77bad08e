"""Mistakes that the configs alone tell, each refused before anything is trained, by name and with a way out."""

from __future__ import annotations

import pytest

from recbench.core.errors import UserError
from recbench.models.registry import lookup
from recbench.objectives.distillation.configs import config_class


def model(name, **keys):
    return lookup(name).config(**keys)


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("slmrec", {"form": "papr"}, ["distillation.form 'papr'", "did you mean 'paper'", "released"]),
        ("slmrec", {"heads": "split"}, ["distillation.heads 'split'", "separate, shared"]),
        ("slmrec", {"inner_states": "norm"}, ["distillation.inner_states 'norm'", "did you mean 'normed'"]),
        ("slmrec", {"cosine_weight": -1.0}, ["distillation.cosine_weight", "0 or more", "-1"]),
        ("slmrec", {"norm_weight": float("nan")}, ["distillation.norm_weight", "nan"]),
        ("slmrec", {"cosine_weight": 0.0, "norm_weight": 0.0}, ["teach nothing", "distillation=multi_supervision"]),
        ("slmrec", {"mode": "ofline"}, ["distillation.mode 'ofline'", "did you mean 'offline'"]),
        ("logits", {"store": "int8"}, ["distillation.store 'int8'", "float32, float16"]),
        ("multi_supervision", {"heads": "one"}, ["distillation.heads 'one'"]),
        ("multi_supervision", {"n_blocks": 1}, ["distillation.n_blocks=1", "at least 2"]),
        ("multi_supervision", {"supervision_weight": 0.0}, ["distillation.supervision_weight", "positive"]),
        ("logits", {"temperature": 0.0}, ["distillation.temperature", "positive", "0"]),
        ("logits", {"temperature": float("inf")}, ["distillation.temperature"]),
        ("logits", {"weight": 0.0}, ["distillation.weight", "positive"]),
        ("ranking", {"top_k": 0}, ["distillation.top_k", "at least 1"]),
        ("ranking", {"n_uninteresting": -1}, ["distillation.n_uninteresting", "at least 0"]),
        ("features", {"layers": "all"}, ["distillation.layers 'all'", "last, blocks"]),
        ("features", {"weight": -2.0}, ["distillation.weight", "-2"]),
    ],
)
def test_values_that_make_no_sense_are_refused(name, keys, words):
    with pytest.raises(UserError) as caught:
        config_class(name)(**keys).check()
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("name", ["none", "slmrec", "multi_supervision", "logits", "ranking", "features"])
def test_the_defaults_make_sense(name):
    config_class(name)().check()


@pytest.mark.parametrize(
    ("name", "student", "teacher", "words"),
    [
        ("slmrec", model("ease"), model("sasrec"), ["'ease' is computed", "distillation=slmrec", "distillation=none"]),
        ("multi_supervision", model("markov"), None, ["'markov' is computed", "distillation=none"]),
        ("logits", model("popularity"), model("sasrec"), ["'popularity' is computed"]),
        ("slmrec", model("sasrec"), model("markov"), ["teacher 'markov' has no hidden states", "distillation=logits"]),
        ("features", model("sasrec"), model("ease"), ["teacher 'ease' has no hidden states", "distillation=ranking"]),
        ("slmrec", model("slmrec", n_layers=3), model("slmrec", n_layers=8), ["n_blocks=4", "3 layers of the student"]),
        ("slmrec", model("slmrec", n_layers=4), model("slmrec", n_layers=6), ["n_blocks=4", "6 layers of the teacher"]),
        ("multi_supervision", model("sasrec", n_layers=2), None, ["n_blocks=4", "2 layers of the student"]),
        (
            "slmrec",
            model("slmrec", tiny_hidden_size=32),
            model("sasrec", hidden_size=64, n_layers=8),
            ["64 wide", "student's 32", "distillation=features"],
        ),
    ],
)
def test_models_that_do_not_fit_are_refused(name, student, teacher, words):
    with pytest.raises(UserError) as caught:
        config_class(name)().check_models(student, teacher)
    assert [word for word in words if word not in str(caught.value)] == []


def test_features_in_blocks_need_depths_that_fit_and_the_last_layer_does_not():
    student, teacher = model("sasrec", n_layers=2), model("slmrec", n_layers=3)
    config_class("features")().check_models(student, teacher)
    with pytest.raises(UserError, match="n_blocks=2 does not divide the 3 layers of the teacher"):
        config_class("features")(layers="blocks", n_blocks=2).check_models(student, teacher)


def test_a_teacher_of_lists_may_teach_a_ranking_but_no_scores(monkeypatch):
    from recbench.models.base import Recommender
    from recbench.models.counting.popularity import Popularity

    monkeypatch.setattr(Popularity, "score", Recommender.score)
    config_class("ranking")().check_models(model("sasrec"), model("popularity"))
    with pytest.raises(UserError, match=r"'popularity' gives lists, not scores .*; use distillation=ranking"):
        config_class("logits")().check_models(model("sasrec"), model("popularity"))


@pytest.mark.parametrize(
    ("given", "teacher"),
    [
        ({}, {"model": "slmrec", "n_layers": 8}),
        ({"n_layers": 4}, {"model": "slmrec", "n_layers": 4}),
        ({"model": "slmrec"}, {"model": "slmrec", "n_layers": 8}),
        ({"model": "sasrec"}, {"model": "sasrec"}),  # not eight layers of it
        ({"model": "markov", "backoff": 0.2}, {"model": "markov", "backoff": 0.2}),
    ],
)
def test_the_depth_of_the_default_teacher_is_not_laid_over_another_model(given, teacher):
    assert config_class("logits")(teacher=given).teacher == teacher
