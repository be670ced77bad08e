"""``recbench probe loop RUN``."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from recbench.cli.probe import copies
from recbench.cli.probe.loop import Moment, World, checked, first_in_row, probe_loop
from recbench.cli.probe.loop_world import LoopSettings, first_histories, held_back
from recbench.core.errors import UserError
from recbench.data.attack import FakeUsersConfig
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.training import TrainingData
from recbench.experiment.build import load_model
from recbench.experiment.model_contract.world import DATA
from recbench.experiment.run import open_run
from recbench.posthoc.probes.taste import Taste


@pytest.fixture(scope="module")
def folder(cli, tiny, tmp_path_factory):
    made = tmp_path_factory.mktemp("loop")
    small = ("model.hidden_size=16", "training.max_epochs=6", "training.lr=0.01")
    for words in (
        ("model=markov",),
        ("model=bpr_mf", "model.hidden_size=16", "training.max_epochs=1"),
        ("model=sasrec", *small),
        ("model=sasrec", *small, "model.items=text", "seed=2"),
    ):
        assert cli(*words, *tiny, cwd=made).status == 0
    return made


def run_of(folder, **wanted):
    """The run of these values: of its model's name, of its seed."""
    for path in (folder / "runs").glob("*-*"):
        run, stage = open_run(path)
        if run.config.model.name == wanted["model"] and run.config.seed == wanted.get("seed", run.config.seed):
            return run, stage
    raise AssertionError(wanted)


def test_round_0_is_the_run_and_a_round_is_what_was_there_and_the_clicks(folder, cli):
    run, stage = run_of(folder, model="sasrec", seed=1)
    before = {path: path.stat().st_mtime_ns for path in run.folder.path.iterdir()}
    for path in (run.folder.path, *run.folder.path.iterdir()):
        os.chmod(path, 0o555)
    done = cli("probe", "loop", f"runs/{run.folder.key}", "rounds=2", "epochs=1", cwd=folder)
    assert done.status == 0, done.err
    assert {path: path.stat().st_mtime_ns for path in run.folder.path.iterdir()} == before
    (result,) = (folder / "probes" / run.folder.key).glob("loop-*/probe.json")
    found = json.loads(result.read_text())
    assert found["figures"]["ndcg_0"] == pytest.approx(run.metrics["test/ndcg@10"], rel=1e-6)
    assert [(row["loop"], row["round"]) for row in found["rows"]] == [
        ("", 0),
        ("clicks", 1),
        ("clicks", 2),
        ("chosen", 1),
        ("chosen", 2),
    ]
    assert all(row["events"] == stage.data.n_users for row in found["rows"][1:])
    assert "Retrained on clicks on its own lists" in result.with_name("page.html").read_text()


@pytest.fixture(scope="module")
def world(folder):
    run, stage = run_of(folder, model="sasrec", seed=1)
    settings = LoopSettings()
    made = World(
        checked(run, settings),
        stage,
        settings,
        Taste.of(stage.data, SyntheticConfig(**DATA)),
        stage.data.n_items,
        held_back(stage),
        np.zeros(stage.data.n_items + 1, dtype=bool),
    )
    return made, load_model(run, stage), first_histories(TrainingData.of(stage.data, stage.split))


def test_the_data_of_a_round_are_training_and_then_the_new_events(world):
    made, _, histories = world
    grown = made.grown(
        histories.with_events(np.full(len(histories.lengths), 7), np.full(len(histories.lengths), 2**31))
    )
    old, new = (TrainingData.of(stage.data, stage.split) for stage in (made.stage, grown))
    for user in (0, 3, 99):
        before = made.stage.data.items[old.start[user] : old.end[user]].tolist()
        assert grown.data.items[new.start[user] : new.end[user]].tolist() == [*before, 7]
    assert (grown.data.items[: len(made.stage.data.items)] == made.stage.data.items).all()  # what is tested lies there
    assert new.item_counts()[7] == old.item_counts()[7] + len(histories.lengths)


def test_nobody_clicks_what_is_tested_or_known(world):
    made, model, histories = world
    moment = Moment(made, model, histories, made.grown(histories))
    liked = moment.liked
    lists, _ = moment.shown(np.random.default_rng(0))
    split = made.stage.split
    assert not liked[split.test.user, split.test.targets].any()
    assert not liked[split.validation.user, split.validation.targets].any()
    known = (lists[:, :, None] == np.where(histories.real, histories.items, -1)[:, None]).any()
    assert not known
    assert (lists > 0).all()


@pytest.mark.parametrize("host", ["markov", "bpr_mf"])
def test_a_computed_model_and_one_with_a_vector_for_each_user_go_round_too(folder, host):
    run, stage = run_of(folder, model=host)
    found = probe_loop(run, stage, LoopSettings(rounds=1, epochs=1))
    assert found["figures"]["ndcg_0"] == pytest.approx(run.metrics["test/ndcg@10"], rel=1e-6)
    assert found["figures"]["gini_clicks"] != found["figures"]["gini_0"]


def test_identical_copies_are_not_told_apart(folder):
    run, stage = run_of(folder, model="sasrec", seed=2)
    found = probe_loop(run, stage, LoopSettings(rounds=1, epochs=1, copies="identical"))
    for row in found["rows"]:
        assert row["difference"] == 0.0
        assert row["copies"] == 0.5
        assert 0 < row["liked"] <= 1
    assert found["figures"]["ndcg_0"] == pytest.approx(run.metrics["test/ndcg@10"], rel=1e-6)


def test_rewritten_copies_are_and_an_id_model_shows_them_as_drawn(folder):
    for seed in (1, 2):
        run, stage = run_of(folder, model="sasrec", seed=seed)
        config = checked(run, LoopSettings(copies="style"))
        own = load_model(run, stage)
        made = copies.model_with_copies(own, config, stage, copies.doubled(stage), "style")
        n = stage.data.n_items
        vectors = made.item_vectors()
        assert (vectors[: n + 1] == own.item_vectors()).all()
        near = np.corrcoef(vectors[1 : n + 1].flatten().detach(), vectors[n + 1 :].flatten().detach())[0, 1]
        assert near > 0.5 if seed == 2 else abs(near) < 0.2


def test_an_item_counts_once_whichever_version_is_listed():
    found = first_in_row(np.array([[3, 1, 3, 1, 2], [0, 0, 5, 5, 5]]))
    assert found.tolist() == [[True, True, False, False, True], [True, False, True, False, False]]


def test_ties_are_nobodys(world):
    lists = np.tile([1, 61, 2], (4_000, 1))
    tied = np.tile([True, True, False], (4_000, 1))
    fair = copies.fair_ties(lists, tied, 60, np.random.default_rng(0))
    assert (fair[:, 0] == 1).mean() == pytest.approx(0.5, abs=0.03)
    assert (np.sort(fair[:, :2]) == [1, 61]).all()
    assert copies.share_of_copies(lists, tied, 60, np.zeros(60, dtype=bool)) == pytest.approx(1 / 3)


def test_mistakes_are_told_by_name(folder, cli):
    plain, text = (run_of(folder, model="sasrec", seed=seed)[0].folder.key for seed in (1, 2))
    for words, message in (
        ((plain, "rounds=0"), "rounds=0 must be at least 1"),
        ((text, "copies=stile"), "unknown copies 'stile'; did you mean 'style'?"),
        ((text, "copies=style", "warm=false"), "copies go with warm=true"),
    ):
        done = cli("probe", "loop", f"runs/{words[0]}", *words[1:], cwd=folder)
        assert done.status == 2
        assert message in done.err


def test_runs_that_cannot_be_retrained_here_are_refused(folder):
    run, _ = run_of(folder, model="sasrec", seed=1)
    codes = replace(run.config, model=replace(run.config.model, items="codes"))
    selected = replace(run.config, training=replace(run.config.training, selection="random"))
    attacked = replace(run.config, attack=FakeUsersConfig())
    for config, copies_, message in (
        (codes, "none", "needs other runs, which would have to be made anew in each round"),
        (selected, "none", "needs other runs"),
        (attacked, "none", "without attack"),
        (replace(run.config, model=replace(run.config.model, heads="brand")), "style", r"copies need a model with"),
    ):
        with pytest.raises(UserError, match=message):
            checked(replace(run, config=config), LoopSettings(copies=copies_))


def test_lists_that_are_the_same_for_all_concentrate_what_is_trained_on(folder):
    """Planted: popularity shows everybody the same few items. Gini of training after three rounds, less that where users chose; over four seeds."""
    run, stage = run_of(folder, model="popularity")
    gaps = []
    for seed in range(4):
        figures = probe_loop(run, stage, LoopSettings(rounds=3, seed=seed))["figures"]
        gaps.append(figures["gini_training_clicks"] - figures["gini_training_chosen"])
    assert np.mean(gaps) - 1.96 * np.std(gaps, ddof=1) / 2 > 0.01, gaps
