"""An attack laid under three kinds of models: computed, of histories, and with a vector for each training user, the fake ones too."""

from __future__ import annotations

import pytest

from recbench.experiment.run import run


@pytest.mark.parametrize("host", ["markov", "sasrec", "bpr_mf"])
def test_every_kind_trains_on_the_fakes_and_is_asked_about_real_users(host, run_config, tmp_path):
    short = [] if host == "markov" else ["training.max_epochs=1", "model.hidden_size=16"]
    words = [f"model={host}", *short, "tuned=off", "attack=random", "attack.share=0.1", "attack.n_targets=3"]
    found = run(run_config(tmp_path, *words)).metrics
    assert found["attack/fake_users"] == 16
    assert 0 <= found["attack/t_hr@10"] <= found["attack/t_hr@50"] <= 1
    assert 1 <= found["attack/median_rank"] <= 60
    assert 0 < found["test/ndcg@10"] < 1
