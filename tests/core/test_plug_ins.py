"""Plug-ins of every kind: listed without an import, loaded by name, and every mistake one line that names the package."""

from __future__ import annotations

import sys

import pytest

from recbench.config.schemas import GROUPS, registered, schema_of
from recbench.core.errors import UserError
from recbench.data import protocol, sources
from recbench.evaluation import added_metrics
from recbench.models import auxiliary, registry
from recbench.objectives.distillation import configs

#: group of entry points -> (its names, one of ours, how it is looked up, what is registered or named, as source and as entry)
KINDS = {
    "models": (registry.model_names, "sasrec", registry.lookup),
    "data_sources": (sources.source_names, "amazon", sources.lookup),
    "protocols": (protocol.protocol_names, "temporal", protocol.protocol_class),
    "metrics": (added_metrics.metric_names, "ndcg", added_metrics.lookup),
    "distillation": (configs.distillation_names, "logits", configs.config_class),
    "auxiliaries": (
        auxiliary.auxiliary_names,
        "duorec",
        lambda name: auxiliary.settings_of(auxiliary.AuxiliaryConfig(auxiliary=[name]), name),
    ),
}
#: A plug-in of each kind: the entry and the module.
GOOD = {
    "models": (
        "theirs",
        """
        from recbench.models.base import ModelConfig
        from recbench.models.closed_form import ClosedForm
        from recbench.models.registry import register
        class Config(ModelConfig): pass
        @register("minne", Config)
        class Model(ClosedForm): pass
        """,
    ),
    "data_sources": (
        "theirs:Config",
        """
        from recbench.data.schema import DataConfig
        class Config(DataConfig): pass
        def read(config, spool, cache_dir): ...
        """,
    ),
    "protocols": (
        "theirs:Config",
        """
        from recbench.data.protocol import ProtocolConfig
        class Config(ProtocolConfig):
            def parts(self, data): ...
        """,
    ),
    "metrics": ("theirs:metric", "def metric(ranked, k): ..."),
    "distillation": (
        "theirs",
        """
        from recbench.objectives.distillation.base import Objective, register
        from recbench.objectives.distillation.configs import DistillationConfig
        class Config(DistillationConfig): pass
        @register("minne", Config)
        class Mine(Objective): pass
        """,
    ),
    "auxiliaries": (
        "theirs",
        """
        from dataclasses import dataclass
        from recbench.models.term_config import PairConfig
        from recbench.objectives.contrastive.base import Auxiliary, register
        @dataclass
        class Config(PairConfig):
            weight: float = 0.5
        @register("minne", Config)
        class Mine(Auxiliary): pass
        """,
    ),
}
every_kind = pytest.mark.parametrize("kind", sorted(KINDS))


@every_kind
def test_names_are_listed_without_an_import_and_the_code_comes_when_asked(install, kind):
    names, ours, find = KINDS[kind]
    entry, source = GOOD[kind]
    assert "minne" not in names()
    install("somebodys", kind, {"minne": entry}, theirs=source)
    assert "minne" in names()
    assert "theirs" not in sys.modules
    find("minne")
    assert "theirs" in sys.modules
    find(ours) if kind != "metrics" else None


@every_kind
def test_an_unknown_name_is_answered_with_the_nearest_right_one(install, kind):
    _, _, find = KINDS[kind]
    install("somebodys", kind, {"minne": GOOD[kind][0]}, theirs=GOOD[kind][1])
    with pytest.raises(UserError, match=r"did you mean 'minne'\? known: .*minne") as caught:
        find("mine")
    assert "theirs" not in sys.modules
    assert "\n" not in str(caught.value)


@every_kind
@pytest.mark.parametrize(
    "source", ["import a_package_that_nobody_has", "def f(:\n", "raise RuntimeError('two\\nlines')"]
)
def test_a_plug_in_that_cannot_be_imported_is_one_line_that_names_its_package(install, kind, source):
    _, _, find = KINDS[kind]
    install("somebodys", kind, {"minne": GOOD[kind][0]}, theirs=source)
    with pytest.raises(
        UserError, match=r"'minne' of the package somebodys cannot be loaded .*pip uninstall somebodys"
    ) as caught:
        find("minne")
    assert "\n" not in str(caught.value)


@every_kind
def test_a_plug_in_that_is_not_what_it_says_names_its_package(install, kind):
    _, _, find = KINDS[kind]
    entry = GOOD[kind][0].partition(":")
    install("somebodys", kind, {"minne": "".join((*entry[:2], "thing")) if entry[1] else "theirs"}, theirs="thing = 3")
    with pytest.raises(UserError, match=r"'minne' of the package somebodys .*its entry is theirs"):
        find("minne")


@every_kind
def test_a_name_of_ours_is_refused_and_ours_are_listed_once(install, kind):
    names, ours, find = KINDS[kind]
    before = names()
    install("somebodys", kind, {ours: GOOD[kind][0]}, theirs=GOOD[kind][1])
    assert names() == before
    with pytest.raises(UserError, match=f"package somebodys brings a .*'{ours}', which is a name of recbench's own"):
        find(ours)


@every_kind
def test_two_packages_with_one_name_are_both_named(install, kind):
    _, _, find = KINDS[kind]
    for package in ("somebodys", "anothers"):
        install(package, kind, {"minne": GOOD[kind][0]}, theirs=GOOD[kind][1])
    with pytest.raises(UserError, match=r"packages anothers and somebodys each bring a .*'minne'; pip uninstall one"):
        find("minne")


@pytest.mark.parametrize("group", ["model", "data", "protocol", "distillation"])
def test_a_group_of_the_command_line_offers_them(install, cli, tmp_path, group):
    assert group in GROUPS
    kind = {"model": "models", "data": "data_sources", "protocol": "protocols"}.get(group, group)
    install("somebodys", kind, {"minne": GOOD[kind][0]}, theirs=GOOD[kind][1])
    assert "minne" in registered(group)
    (line,) = (line for line in cli("--help", cwd=tmp_path).out.splitlines() if line.startswith(f"  {group} "))
    assert "minne" in line
    assert "theirs" not in sys.modules
    schema_of(group, "minne")
    assert "theirs" in sys.modules
