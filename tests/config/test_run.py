"""The schema of a run: what is in ``conf/`` fits it, whatever is composed survives a round trip, and mistakes are named."""

from __future__ import annotations

import dataclasses
import json

import pytest
import yaml
from omegaconf import OmegaConf

from recbench.config.run import RunConfig
from recbench.config.schemas import GROUPS, compose_model, conf_dir, option_values, schema_of, with_schema
from recbench.config.settings import EvaluationConfig, RootConfig
from recbench.core.errors import UserError
from recbench.core.yaml_text import dump_yaml, load_yaml
from recbench.data.text_config import TextConfig
from recbench.models.auxiliary import OURS
from recbench.models.registry import model_names

#: Keys that every sequence model has, which stand in the file of one.
LAID_OVER = {*OURS, "auxiliary_keys", "items", "pieces", "tokenizer", "heads", "class_heads"}
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((conf_dir() / group).glob("*.yaml"))]
#: Keys without which an option means nothing.
NEEDED = {("data", "table"): ["data.path=events.csv"]}


def test_every_group_has_options():
    assert {group for group, _ in OPTIONS} == set(GROUPS)
    assert [path.stem for path in conf_dir().glob("*.yaml")] == ["config"]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_a_file_holds_only_keys_of_its_schema_and_loses_none(group, option):
    values = option_values(group, option)
    typed = with_schema(group, values["name"], values)
    for key, value in values.items():
        assert OmegaConf.to_container(typed, resolve=True)[key] == value or isinstance(value, dict)
    again = with_schema(group, values["name"], OmegaConf.to_container(typed))
    assert OmegaConf.to_object(again) == OmegaConf.to_object(typed)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_a_file_says_every_key_that_can_be_set(group, option):
    """A person reads the file to learn the keys. Variants of an option need only say what differs."""
    values = option_values(group, option)
    if values["name"] != option or group in ("hardware", "tracking"):
        return
    assert list(with_schema(group, option, values)) != []
    # The keys of each contrastive term stand in one file, to which the others point.
    told_here = option in ("sasrec", "bpr_mf")
    elsewhere = {"raw_dir", "version", "category"} | (set() if told_here else LAID_OVER)
    if option == "amazon":
        assert set(values["text"]) == {part.name for part in dataclasses.fields(TextConfig)}
    assert set(with_schema(group, option, values)) - set(values) - elsewhere == set()


def test_the_top_file_holds_only_keys_of_the_schema():
    values = yaml.safe_load((conf_dir() / "config.yaml").read_text())
    values.pop("defaults"), values.pop("hydra")
    typed = OmegaConf.merge(OmegaConf.structured(RootConfig), values)
    assert {key for key in typed if key not in (*GROUPS, "tuned")} == set(values)
    for part in ("training", "evaluation"):
        assert set(values[part]) == set(typed[part])


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_survives_the_round_trip(compose, group, option):
    config = RunConfig.from_hydra(compose(f"{group}={option}", *NEEDED.get((group, option), ())))
    assert type(getattr(config, group)) is schema_of(group, getattr(config, group).name)
    plain = config.as_dict()
    assert RunConfig.from_dict(plain) == config
    # As it is stored: in YAML in the run folder, in JSON on its way to a server.
    assert RunConfig.from_dict(load_yaml(dump_yaml(plain))) == config
    assert RunConfig.from_dict(json.loads(json.dumps(plain))) == config


def test_a_run_that_was_stored_before_there_was_compression_has_none(compose):
    config = RunConfig.from_hydra(compose("model=sasrec"))
    plain = config.as_dict()
    del plain["compression"]
    assert RunConfig.from_dict(plain) == config


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ([], ""),
        (["compression=int8"], "int8"),
        (["compression=prune"], "prune 0.5"),
        (["compression=prune", "compression.amount=0.25", "compression.method=weights"], "prune 0.25 of weights"),
        (["compression=early_exit"], "layer 1"),
        (["compression=early_exit", "compression.layer=2", "compression.final_norm=false"], "layer 2 without norm"),
    ],
)
def test_a_compression_has_a_short_name(compose, words, label):
    assert RunConfig.from_hydra(compose("model=sasrec", *words)).compression.label == label


@pytest.mark.parametrize("path", sorted((conf_dir() / "tuned").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_suits_a_model_on_its_data_is_used_there_and_gives_way_to_the_command_line(compose, path):
    model, data = path.stem.split("-")
    assert {("model", model), ("data", data)} <= set(OPTIONS)
    tuned = yaml.safe_load(path.read_text())
    config = RunConfig.from_hydra(compose(f"model={model}", f"data={data}"))
    for group, keys in tuned.items():
        for key, value in keys.items():
            assert getattr(getattr(config, group), key) == value
    assert RunConfig.from_hydra(compose(f"model={model}", f"data={data}", "training.lr=0.7")).training.lr == 0.7
    other = "retailrocket"  # for which nothing is tuned
    elsewhere = compose(f"model={model}", f"data={other}")
    assert elsewhere.training.lr == compose("model=markov", f"data={other}").training.lr


@pytest.mark.parametrize("name", model_names())
def test_every_registered_model_is_an_option_with_or_without_a_file(compose, name):
    assert RunConfig.from_hydra(compose(f"model={name}")).model.name == name


def test_alone_it_means_slmrec_on_synthetic_data(compose):
    config = RunConfig.from_hydra(compose())
    names = {group: getattr(config, group).name for group in GROUPS}
    assert names == {
        "model": "slmrec",
        "data": "synthetic",
        "protocol": "leave_one_out",
        "attack": "none",
        "distillation": "slmrec",
        "compression": "none",
        "hardware": "auto",
        "tracking": "mlflow",
    }


def test_slmrec_brings_its_teacher_unless_told_otherwise(compose):
    def distilled(*words):
        return compose(*words).distillation.name

    assert distilled("model=slmrec") == "slmrec"
    assert distilled("model=slmrec", "distillation=none") == "none"
    assert distilled("model=slmrec_plain") == "none"
    assert distilled("model=sasrec") == "none"


def test_the_public_keys_stay(compose):
    words = [
        "seed=3",
        "training.max_epochs=3",
        "training.batch_size=3",
        "training.lr=3",
        "training.weight_decay=3",
        "training.patience=3",
        "training.max_length=3",
        "evaluation.cutoffs=[3]",
        "runs_dir=/3",
        "cache_dir=/3",
        "tracking.uri=3",
        "tracking.experiment=3",
        "data=amazon",
        "data.raw_dir=3",
        "data.version='2018'",
        "data.category=3",
        "data.k_core=3",
        "data.min_rating=3",
    ]
    config = RunConfig.from_hydra(compose(*words))
    assert (config.seed, config.training.max_length, config.evaluation.cutoffs) == (3, 3, [3])
    assert (str(config.runs_dir), str(config.cache_dir)) == ("/3", "/3")
    assert (config.data.version, config.data.k_core, config.data.min_rating) == ("2018", 3, 3.0)


def test_paths_are_absolute_wherever_the_run_is_opened(compose, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    config = RunConfig.from_hydra(compose("runs_dir=here", "cache_dir='~/there'"))
    assert config.runs_dir == tmp_path / "here"
    assert str(config.cache_dir) == "/home/somebody/there"


def test_the_cache_may_come_from_the_environment(compose, monkeypatch):
    monkeypatch.setenv("RECBENCH_CACHE", "/somewhere/else")
    assert str(RunConfig.from_hydra(compose()).cache_dir) == "/somewhere/else"


@pytest.mark.parametrize(("cutoffs", "monitor"), [([1, 5, 10, 20], "ndcg@10"), ([5, 50], "ndcg@50"), ([10], "ndcg@10")])
def test_ten_decides_when_training_stops_where_it_is_reported(cutoffs, monitor):
    assert EvaluationConfig(cutoffs).monitor == monitor


def test_a_model_from_loose_keys_has_the_values_of_its_file():
    model, training = compose_model(
        {"model": "sasrec", "hidden_size": 128, "training": {"lr": "1e-4"}}, "here", "amazon"
    )
    expected = {**option_values("model", "sasrec"), "hidden_size": 128}
    assert dataclasses.asdict(model) == expected
    assert training == {"lr": 1e-4}  # typed, whatever the shell made of it


def test_a_variant_may_be_named_where_a_model_is(compose):
    model, _ = compose_model({"model": "slmrec_plain"}, "distillation.teacher", "amazon")
    assert model.name == "slmrec"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, ["here.model is missing"]),
        ({"model": ["sasrec"]}, ["here.model"]),
        ({"model": "sasrek"}, ["sasrek", "did you mean 'sasrec'"]),
        ({"model": "sasrec", "hiden_size": 3}, ["here.hiden_size", "did you mean 'hidden_size'"]),
        ({"model": "sasrec", "trainin": {}}, ["here.trainin", "did you mean 'training'"]),
        ({"model": "sasrec", "training": {"lrr": 1}}, ["here.training.lrr", "did you mean 'lr'"]),
        ({"model": "sasrec", "training": {"lr": "fast"}}, ["here.training.lr", "fast", "Float"]),
        ({"model": "sasrec", "training": 3}, ["here.training", "max_epochs"]),
        ({"model": "sasrec", "hidden_size": "wide"}, ["hidden_size", "wide", "Integer"]),
    ],
)
def test_loose_keys_are_checked_like_any_other(keys, words):
    with pytest.raises(UserError) as caught:
        compose_model(keys, "here", "amazon")
    message = str(caught.value)
    assert [word for word in words if word not in message] == []
    assert "\n" not in message


@pytest.mark.parametrize(
    ("group", "name", "words"),
    [
        ("model", "sasrek", ["did you mean 'sasrec'"]),
        ("data", "amazn", ["did you mean 'amazon'"]),
        ("protocol", "temporl", ["did you mean 'temporal'"]),
        ("distillation", "slmrek", ["did you mean 'slmrec'"]),
        ("compression", "int9", ["did you mean 'int8'"]),
    ],
)
def test_an_unknown_name_gets_the_nearest_one(group, name, words):
    with pytest.raises(UserError) as caught:
        schema_of(group, name)
    assert all(word in str(caught.value) for word in (name, *words))


def test_a_key_of_another_option_is_refused_with_the_option():
    with pytest.raises(UserError, match=r"unknown key 'model.hidden_size' for model 'markov'; known: name, backoff"):
        with_schema("model", "markov", {"hidden_size": 3})
