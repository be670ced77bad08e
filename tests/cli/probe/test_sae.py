"""``recbench probe sae RUN``."""

from __future__ import annotations

import json
import os

import pytest
import torch

from recbench.cli.probe.sae import ablation, scores_of
from recbench.experiment.model_contract.world import fresh, world
from recbench.posthoc.probes.dictionary import random_dictionary


@pytest.fixture(scope="module")
def runs(cli, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    for words in (
        ("model=markov",),
        ("model=sasrec", "model.hidden_size=16", "training.max_epochs=4", "training.lr=0.01"),
    ):
        assert cli(*words, *tiny, cwd=folder).status == 0
    return folder


def test_a_page_and_figures_beside_their_controls_and_the_run_is_left_alone(runs, cli):
    run = next((runs / "runs").glob("sasrec-*"))
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    for path in (run, *run.iterdir()):
        os.chmod(path, 0o555)
    done = cli("probe", "sae", f"runs/{run.name}", "epochs=3", "shown=5", cwd=runs)
    assert done.status == 0, done.err
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before
    (result,) = (runs / "probes" / run.name).glob("sae-*/probe.json")
    found = json.loads(result.read_text())
    figures = found["figures"]
    stored = json.loads((run / "metrics.json").read_text())
    assert figures["ndcg@10"] == pytest.approx(stored["test/ndcg@10"])
    assert figures["ndcg@10_mean_state"] < figures["ndcg@10"]
    assert figures["unexplained_variance"] < figures["unexplained_variance_random"]
    assert figures["confidence_dealt_attributes"] < figures["confidence"]
    assert len(found["rows"]) == 5
    assert "<h1>What the states of" in result.with_name("page.html").read_text()
    written = result.stat().st_mtime_ns
    assert cli("probe", "sae", f"runs/{run.name}", "epochs=3", "shown=5", cwd=runs).status == 0
    assert result.stat().st_mtime_ns == written


def test_mistakes_are_told_by_name(runs, cli):
    markov, sasrec = (next((runs / "runs").glob(f"{name}-*")).name for name in ("markov", "sasrec"))
    for words, message in (
        (("sea", f"runs/{sasrec}"), "unknown probe 'sea'; did you mean 'sae'?"),
        (("sae", f"runs/{markov}"), "the model 'markov' has no state that its scores are made of"),
        (("sae", f"runs/{sasrec}", "kk=3"), "unknown key 'kk'; did you mean 'k'?"),
        (("sae", f"runs/{sasrec}", "k=0"), "k=0 must be at least 1"),
    ):
        done = cli("probe", *words, cwd=runs)
        assert done.status == 2
        assert message in done.err


def test_taking_nothing_out_changes_no_list():
    model = fresh("sasrec", {"hidden_size": 16})
    states = torch.randn(9, 16)
    dictionary = random_dictionary(states, 32, 4, 0)
    active, which = dictionary.latents(states)
    bears = torch.rand(world().data.n_items + 1) < 0.3
    latent = int(which[0, 0])
    nothing = ablation(model, states, 0.0 * active + 1e-30, which, dictionary, latent, latent, bears)
    assert nothing == 0.0
    torch.testing.assert_close(scores_of(model, states), model.queries(states) @ model.item_vectors().T)
