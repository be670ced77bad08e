"""Probes with three kinds of models each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbench.cli.probe.sae import SaeSettings, ablation, collect_states, scores_of
from recbench.cli.probe.surrogate import Lessons, Training, objective_for, teach
from recbench.data.training import TrainingData
from recbench.experiment.model_contract.world import fresh, world
from recbench.models.sequence_model import SequenceModel
from recbench.posthoc.probes.dictionary import learn_dictionary
from recbench.posthoc.probes.sequences import few_users

HOSTS = ["sasrec", "gru4rec", "lrurec"]


@pytest.mark.parametrize("host", HOSTS)
def test_a_dictionary_of_its_states_changes_its_scores_only_where_a_latent_is_taken_out(host):
    model = fresh(host, {"hidden_size": 16})
    assert isinstance(model, SequenceModel)
    train = TrainingData.of(world().data, world().split)
    found = collect_states(model, train, SaeSettings(most_states=400))
    learned, _ = learn_dictionary(found.states, 32, 4, 2)
    with torch.no_grad():
        states = model.last_states(world().histories)[-1]
        torch.testing.assert_close(scores_of(model, states), model.score(world().histories))
    active, which = learned.latents(found.states)
    latent = int(which[active.argmax() // 4, active.argmax() % 4])
    bears = torch.from_numpy(np.random.default_rng(0).random(world().data.n_items + 1) < 0.3)
    for strength, expected in ((0.0, True), (50.0, False)):
        effect = ablation(model, found.states, strength * active + 1e-30, which, learned, latent, latent, bears)
        assert (effect == 0.0) is expected


@pytest.mark.parametrize("host", HOSTS)
def test_a_copy_of_any_kind_learns_the_lists_that_it_is_taught(host):
    """Lists of one fixed order of the items: after some epochs the copy lists mostly these."""
    few = few_users(TrainingData.of(world().data, world().split), 0.5, 20, np.random.default_rng(0))
    lists = np.tile(np.arange(1, 6, dtype=np.int32), (len(few.items), 1))
    model = fresh(host, {"hidden_size": 16}).requires_grad_(True)
    assert isinstance(model, SequenceModel)
    data = few.data(world().data)
    unknown = type(few)(few.items, few.place, few.offsets, np.zeros(len(few.items), dtype=bool))
    judged = []

    def judge(trained):
        with torch.no_grad():
            best = trained.score(world().histories)[:, 1:].topk(5).indices + 1
        judged.append(float((best <= 5).float().mean()))
        return judged[-1]

    how = Training(epochs=6, lr=0.02, batch_size=256, seed=0)
    best = teach(model, data, Lessons(unknown, lists, False), how, objective_for(model, 5, 0.5), judge)
    assert best == max(judged) > 0.9
    assert judge(model) == best  # it is left with the weights of its best epoch
