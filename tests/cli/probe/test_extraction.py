"""``recbench probe extraction RUN``."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from recbench.cli.probe import extraction, extraction_page
from recbench.cli.probe.extraction import ASKED, Attack, ExtractionSettings, Victim, copied, surrogate_config
from recbench.core.errors import UserError
from recbench.data.training import TrainingData
from recbench.experiment.build import load_model
from recbench.experiment.run import open_run
from recbench.posthoc.probes.sequences import few_users

SHORT = ("epochs=8", "lr=0.01", "few=0.3", "ceiling=false", "queries=400")


@pytest.fixture(scope="module")
def folder(cli, tiny, tmp_path_factory):
    made = tmp_path_factory.mktemp("extraction")
    for words in (
        ("model=bpr_mf", "training.max_epochs=1"),
        ("model=markov",),
        ("model=sasrec", "model.hidden_size=16", "training.max_epochs=12", "training.lr=0.01"),
    ):
        assert cli(*words, *tiny, cwd=made).status == 0
    return made


@pytest.fixture(scope="module")
def attack(folder):
    run, stage = open_run(next((folder / "runs").glob("sasrec-*")))
    settings = ExtractionSettings(few=0.3, epochs=1, queries=150)
    victim = load_model(run, stage)
    few = few_users(TrainingData.of(stage.data, stage.split), 0.3, 20, np.random.default_rng(0))
    made = Attack(run, stage, settings, surrogate_config(run.config, settings), few, 150, victim, np.zeros((0, 10)))
    return replace(made, theirs=made.lists(victim, stage.data, stage.split.test))


def test_a_copy_that_asked_agrees_more_than_one_that_did_not(folder, cli):
    run = next((folder / "runs").glob("sasrec-*"))
    done = cli("probe", "extraction", f"runs/{run.name}", *SHORT, cwd=folder)
    assert done.status == 0, done.err
    (result,) = (folder / "probes" / run.name).glob("extraction-*/probe.json")
    found = json.loads(result.read_text())
    rows = {row["name"]: row for row in found["rows"]}
    stored = json.loads((run / "metrics.json").read_text())
    assert found["figures"]["ndcg@10"] == pytest.approx(stored["test/ndcg@10"])
    assert [rows[kind]["queries"] for kind in ASKED] == [400] * 4
    asked = rows["asked"]["agr"] - rows["asked"]["agr_half_width"]
    assert asked > rows["few"]["agr"] + rows["few"]["agr_half_width"]
    assert asked > rows["popularity"]["agr"]
    assert "asked about the few histories" in result.with_name("page.html").read_text()


def test_the_run_itself_agrees_wholly_and_answers_the_same_twice(attack):
    row = attack.row("itself", attack.victim, 0)
    assert (row["agr"], row["rbo"]) == (1.0, pytest.approx(1.0))
    cases = attack.few.cases(np.arange(40))
    one, two = (attack.lists(attack.victim, attack.few.data(attack.stage.data), cases) for _ in range(2))
    assert (one == two).all()


@pytest.mark.parametrize("kind", ASKED)
def test_no_more_is_asked_than_the_budget_and_nothing_of_what_is_tested(attack, kind, monkeypatch):
    asked = []
    top = Victim.top

    def noted(self, data, cases):
        asked.append((data, cases))
        return top(self, data, cases)

    monkeypatch.setattr(Victim, "top", noted)
    assert copied(attack, kind)["queries"] == sum(len(cases) for _, cases in asked) == 150
    train_end, offsets = attack.stage.split.train_end, attack.stage.data.offsets
    user = np.searchsorted(offsets, attack.few.place, side="right") - 1
    assert (attack.few.place < train_end[user]).all()
    if kind == "asked":
        (data, cases), seen = asked[0], attack.few.items
        assert all((data.items[s:e] == seen[s:e]).all() for s, e in zip(cases.start, cases.end, strict=True))


def test_beyond_the_budget_nothing_is_answered(attack):
    victim = Victim(lambda data, cases: np.zeros((len(cases), 10)), 3)
    victim.top(attack.stage.data, attack.few.cases(np.arange(2)))
    with pytest.raises(UserError, match="2 questions are more than the 1 that are left"):
        victim.top(attack.stage.data, attack.few.cases(np.arange(2)))


def test_a_walk_goes_along_the_lists(attack):
    generator = np.random.default_rng(3)
    outline = extraction.outlines(attack.few, 60, generator)
    victim = Victim(lambda data, cases: attack.lists(attack.victim, data, cases), 60)
    made, said = extraction.walked(outline, victim, attack, generator)
    inner = np.setdiff1d(np.arange(60), made.offsets[1:] - 1)
    assert all(made.items[at + 1] in said[at] for at in inner)
    assert (said > 0).all()


def test_mistakes_are_told_by_name(folder, cli):
    sasrec, mf = (next((folder / "runs").glob(f"{name}-*")).name for name in ("sasrec", "bpr_mf"))
    for words, message in (
        ((f"runs/{mf}",), "the model 'bpr_mf' answers for the users that it was trained on"),
        ((f"runs/{sasrec}", "few=2"), "few=2 must be above 0 and at most 1"),
        ((f"runs/{sasrec}", "surrogate=markov"), "the model 'markov' cannot learn from lists"),
        ((f"runs/{sasrec}", "queries=-1"), "queries=-1 must be at least 0"),
        (
            (f"runs/{sasrec}", "queries=1", "epochs=1", "few=0.3"),
            "with queries=1 no list is left to choose an epoch by",
        ),
    ):
        done = cli("probe", "extraction", *words, cwd=folder)
        assert done.status == 2
        assert message in done.err


def test_the_verdict_says_when_made_histories_add_nothing():
    figures = {f"agr_{kind}": 0.2 for kind in (*ASKED, "few", "popularity")}
    figures |= {"agr_asked": 0.4, "queries_asked": 9, "queries_random": 9, "users_had": 3}
    assert "Made histories add nothing (0.200) at 9 lists" in extraction_page.verdict(figures)
