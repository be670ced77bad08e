"""Composing quickly: values laid over what was composed before are what Hydra makes of the whole command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize
from hydra.errors import HydraException
from omegaconf import OmegaConf

from recbench.config.compose import composed, opened
from recbench.config.hydra_source import TOP
from tests.fixtures.composing import copied


def by_hydra(words):
    with initialize(version_base="1.3", config_path=None):
        return hydra_compose(config_name=TOP, overrides=[opened(word) for word in words])


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["model=sasrec", "model.hidden_size=16", "seed=3", "runs_dir=elsewhere", "training.lr=5e-3"],
        ["training.lr=1e-2", "model=sasrec", "training.lr=1e-4", "model.auxiliary=[duorec,cl4srec]"],
        ["model=slmrec", "model.item_table.hidden_size=16", "model.item_table.training.max_epochs=2"],
        ["model=slmrec", "distillation.teacher.n_layers=4", "distillation=none"],
        ["model=sasrec", "data=amazon", "++training.lr=3e-3"],
        ["model=sasrec", "tuned=sasrec-synthetic", "cache_dir=${runs_dir}/x"],
        ["hydra.sweep.dir=x", "model=sasrec", "runs_dir='a b'"],
    ],
)
def test_values_laid_over_are_what_hydra_composes(words):
    for _ in range(2):  # the second time the base is there
        found = composed(words)
        assert OmegaConf.to_yaml(found) == OmegaConf.to_yaml(by_hydra(words))
        assert OmegaConf.is_struct(found)


@pytest.mark.parametrize(
    "words",
    [
        ["model=sasrec", "model.hiden_size=16"],
        ["model=sasrec", "model.hidden_size=wide"],
        ["model=sasrec", "training.lr=1,2"],
        ["model=sasrec", "training.lr="],
        ["model=sasrec", "model=gru4rec", "seed=a"],
        ["model=sasrek"],
        ["model.sub.key=[1"],
    ],
)
def test_a_mistake_is_said_as_hydra_says_it(words):
    composed(["model=sasrec"])
    told = []
    for make in (composed, by_hydra):
        with pytest.raises(Exception) as error:
            make(words)
        said = str(error.value).partition("Config search path")[
            0
        ]  # a folder of ours is in it, or none; nobody is shown it
        told.append((type(error.value), said, type(error.value.__cause__)))
    assert told[0] == told[1]
    assert issubclass(told[0][0], HydraException) or told[0][0].__name__ == "UserError"


def test_what_was_composed_can_be_changed_and_is_not_changed_for_others():
    first = composed(["model=sasrec", "model.hidden_size=16"])
    first.model.hidden_size = 24
    first.model.auxiliary.append("duorec")
    assert composed(["model=sasrec"]) == by_hydra(["model=sasrec"])


@dataclass
class Kinds:
    either: int | str = 3
    none: dict[str, int] | None = None
    within: list[Any] = field(default_factory=lambda: [1, {"a": [2]}])
    elsewhere: Any = "${.either}"


def test_the_quick_copy_of_these_tests_is_a_copy():
    first = OmegaConf.create({"part": OmegaConf.structured(Kinds), "missing": "???", "same": "${part}"})
    OmegaConf.set_struct(first, True)
    second = copied(first)
    assert OmegaConf.to_yaml(second) == OmegaConf.to_yaml(first)
    assert OmegaConf.is_struct(second)
    assert second.same.elsewhere == 3
    second.part.either = "text"
    second.part.within[1].a.append(5)
    OmegaConf.set_struct(second, False)
    second.new = 1
    assert second.same.elsewhere == "text"
    assert (first.part.either, first.part.within[1].a, "new" in first) == (3, [2], False)
    assert OmegaConf.is_struct(first)
