"""``attack=NAME``: fake users in training, real ones in the test."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from recbench.config.run import RunConfig
from recbench.core.errors import UserError
from recbench.data.attack import AttackConfig, FakeUsersConfig, attack_targets, attacked
from recbench.data.training import TrainingData
from recbench.experiment.attack_figures import promoted_cases
from recbench.experiment.context import RunContext
from recbench.experiment.key import run_key
from recbench.experiment.model_contract.world import world
from recbench.experiment.run import run


@pytest.mark.parametrize("name", ["random", "bandwagon", "sequence"])
def test_fake_users_train_and_are_never_asked(name):
    data, split = world().data, world().split
    made, changed = attacked(data, split, FakeUsersConfig(name=name, share=0.1))
    assert made.n_users - data.n_users == made.n_users - made.n_real_users == 16
    assert np.array_equal(made.items[: len(data.items)], data.items)
    assert all(np.array_equal(a, b) for a, b in zip(changed.test.arrays(), split.test.arrays(), strict=True))
    train, clean = TrainingData.of(made, changed), TrainingData.of(data, split)
    targets = attack_targets(data, split, FakeUsersConfig(name=name, share=0.1))
    gained = train.item_counts() - clean.item_counts()
    assert (gained[targets] > 0).all()
    assert np.array_equal(TrainingData.of_real_users(made, changed).item_counts(), clean.item_counts())
    start, end = train.start[data.n_users :], train.end[data.n_users :]
    for first, last in zip(start, end, strict=True):
        events = made.items[first:last]
        assert len(set(events.tolist())) == len(events) >= 4
        assert (np.diff(made.timestamps[first:last]) >= 0).all()
        if name == "sequence":
            assert events[1] in targets
    again, _ = attacked(data, split, FakeUsersConfig(name=name, share=0.1))
    other, _ = attacked(data, split, FakeUsersConfig(name=name, share=0.1, seed=1))
    assert np.array_equal(made.items, again.items)
    assert made.fingerprint == again.fingerprint != other.fingerprint
    assert not np.array_equal(made.items, other.items)


def test_targets_are_rare_and_asked_only_of_users_who_lack_them():
    data, split = world().data, world().split
    targets = attack_targets(data, split, AttackConfig(n_targets=5))
    counts = TrainingData.of(data, split).item_counts()
    assert counts[targets].max() <= np.quantile(counts[1:], 0.25)
    cases = promoted_cases(data, split.test, targets)
    for case in range(len(cases)):
        history = set(data.items[cases.start[case] : cases.end[case]].tolist())
        asked = cases.targets[cases.target_offsets[case] : cases.target_offsets[case + 1]].tolist()
        assert asked == [t for t in targets.tolist() if t not in history]


def test_runs_that_differ_by_their_attack_share_no_data(run_config, tmp_path):
    stages = {}
    clean, attack, again = (
        RunContext.among(stages, run_config(tmp_path, "model=popularity", *words))
        for words in ((), ("attack=random", "attack.share=0.1"), ("training.lr=0.5",))
    )
    assert again is clean
    assert attack.data.n_users > clean.data.n_users


def test_at_its_default_it_enters_no_key_and_an_attack_does(run_config, tmp_path):
    plain = run_config(tmp_path, "model=sasrec")
    stage = RunContext.of(plain)
    key = run_key(plain, stage)
    assert run_key(dataclasses.replace(plain, attack=AttackConfig()), stage) == key
    hit = run_config(tmp_path, "model=sasrec", "attack=random")
    assert run_key(hit, RunContext.of(hit)) != key


def test_mistakes_are_told_by_name(run_config, tmp_path):
    for words, message in (
        (("attack=random", "attack.share=1.5"), r"attack\.share=1\.5 must lie between 0 and 1"),
        (("attack=none", "attack.share=0.1"), r"attack\.share=0\.1 needs an attack"),
        (("attack=random", "attack.n_targets=0"), r"attack\.n_targets=0 must be at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            run_config(tmp_path, "model=sasrec", *words)


def test_promoted_items_rise_and_real_users_are_the_same(compose, tmp_path):
    """Planted: five rare items promoted by 5 % fake users. They come into more lists; accuracy hardly moves; a share of no user is the clean run."""
    words = [
        "data=synthetic", "data.n_users=600", "data.n_items=200", "hardware=cpu", "tracking=off", "tuned=off", "model=sasrec",
        "model.hidden_size=16", "model.n_layers=1", "model.dropout=0.2", "training.lr=0.01", "training.max_epochs=6",
        "training.validate_every=6", f"runs_dir={tmp_path}",
    ]  # fmt: skip

    def made(*more):
        found = run(RunConfig.from_hydra(compose(*words, *more)))
        return found.metrics, pl.read_parquet(found.folder.ranks)

    clean, ranks = made("attack=none", "attack.n_targets=5")
    hit, asked = made("attack=sequence", "attack.share=0.05")
    pairs = 5 * len(ranks)
    rise = hit["attack/t_hr@50"] - clean["attack/t_hr@50"]
    error = np.sqrt(sum(m["attack/t_hr@50"] * (1 - m["attack/t_hr@50"]) for m in (hit, clean)) / pairs)
    assert rise > 0.1 + 1.96 * error, (clean["attack/t_hr@50"], hit["attack/t_hr@50"])
    assert hit["attack/median_rank"] < clean["attack/median_rank"]
    assert asked["user"].to_list() == ranks["user"].to_list()
    assert hit["attack/fake_users"] == 30
    nobody, same = made("attack=random", "attack.share=0")
    assert same["rank"].to_list() == ranks["rank"].to_list()
    assert nobody["attack/t_hr@50"] == clean["attack/t_hr@50"]
