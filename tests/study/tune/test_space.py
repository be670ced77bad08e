"""Search spaces: values only, of keys that the model has, and the user's words before them."""

from __future__ import annotations

import pytest

from recbench.cli.tune import hydra_words, read_arguments
from recbench.config.schemas import conf_dir
from recbench.core.errors import UserError
from recbench.models.registry import lookup, model_names
from recbench.study.tune.space import search_name, space_words
from recbench.study.values import read_yaml

SPACES = sorted(path.stem for path in (conf_dir() / "tuning").glob("*.yaml"))


def test_every_model_that_ranks_has_a_space():
    assert set(SPACES) == {name for name in model_names() if lookup(name).model.ranks} - {"popularity"}


@pytest.mark.parametrize("model", SPACES)
def test_a_space_names_keys_of_its_model_and_values_that_it_takes(compose, model):
    from omegaconf import OmegaConf

    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

    words = space_words(model, [])
    space, fixed = create_params_from_overrides(words)
    assert fixed == {}
    assert ("training.lr" in space) == lookup(model).model.trains_by_gradient
    composed = compose(f"model={model}", "data=synthetic")
    for key, distribution in space.items():
        assert OmegaConf.select(composed, key) is not None, key
        ends = getattr(distribution, "choices", None) or (distribution.low, distribution.high)
        for value in ends:
            compose(f"model={model}", f"{key}={value}")


def test_the_users_words_come_before_the_space_and_a_variant_has_its_models():
    space = read_yaml(conf_dir() / "tuning" / "sasrec.yaml")
    words = space_words("esasrec", ["model.dropout=0.2", "training.lr=interval(1e-3,1e-2)"])
    assert {word.split("=")[0] for word in words} == space.keys() - {"model.dropout", "training.lr"}


def test_without_a_space_it_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"no search space for model=popularity.*training.lr=tag"):
        space_words("popularity", ["model=popularity"])
    assert space_words("popularity", ["model=popularity", "training.max_length=choice(10,20)"]) == []
    with pytest.raises(UserError, match="there is no file"):
        space_words("sasrec", [], tmp_path / "none.yaml")


def test_a_search_is_known_by_its_words_and_not_by_its_budget_or_place():
    def name(*words):
        return hydra_words(read_arguments(["model=sasrec", *words]))[0]

    assert name("--trials=5") == name("--trials=50", "--hours=2") == name("runs_dir=elsewhere", "hardware=cpu")
    assert len({name(), name("training.max_epochs=3"), name("--sampler-seed=2"), name("--jobs=2")}) == 4
    assert search_name("a", ["x=1", "y=2"], 1, 1) == search_name("a", ["y=2", "x=1"], 1, 1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "model=NAME"),
        (["model=sasrec", "--trials=0"], "--trials must be at least 1"),
        (["model=sasrec", "--hours=-1"], "--hours"),
        (["model=sasrec", "fast"], "'fast'"),
        (["model=sasrec", "--trails=3"], "--trails"),
    ],
)
def test_wrong_use_is_one_line(capsys, words, expected):
    from recbench.cli.tune import main

    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert expected in line
